"""What containerd's configuration says of mirror files, compared with what containerd itself makes of it."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from app.containerd.config_toml import ConfigUnreadable, ContainerdConfig, plugin_section, read_config

CRI = 'plugins."io.containerd.grpc.v1.cri".registry'
CASES = {
    "nothing": {"config.toml": "version = 2\n"},
    "one folder": {"config.toml": f'version = 2\n[{CRI}]\nconfig_path = "/etc/containerd/certs.d"\n'},
    "two folders": {"config.toml": f'version = 2\n[{CRI}]\nconfig_path = "/etc/a:/etc/b"\n'},
    "deprecated mirrors": {"config.toml": f'version = 2\n[{CRI}.mirrors."docker.io"]\nendpoint = ["http://x"]\n'},
    "deprecated certificates": {"config.toml": f'version = 2\n[{CRI}.configs."docker.io".tls]\nca_file = "/x"\n'},
    "an import replaces": {
        "config.toml": f'version = 2\nimports = ["FOLDER/d/*.toml"]\n[{CRI}]\nconfig_path = "/etc/a"\n',
        "d/b.toml": f'version = 2\n[{CRI}]\nconfig_path = "/etc/b"\n',
        "d/c.toml": f'version = 2\n[{CRI}]\nconfig_path = "/etc/c"\n',
    },
    "an import replaces the whole section": {
        "config.toml": f'version = 2\nimports = ["d/b.toml"]\n[{CRI}]\nconfig_path = "/etc/a"\n',
        "d/b.toml": f'version = 2\n[{CRI}.mirrors."docker.io"]\nendpoint = ["http://x"]\n',
    },
    "an import of another plugin does not": {
        "config.toml": f'version = 2\nimports = ["d/b.toml"]\n[{CRI}]\nconfig_path = "/etc/a"\n',
        "d/b.toml": 'version = 2\n[plugins."io.containerd.gc.v1.scheduler"]\nstartup_delay = "1s"\n',
    },
    "imports of imports": {
        "config.toml": f'version = 2\nimports = ["FOLDER/d/*.toml"]\n[{CRI}]\nconfig_path = "/etc/a"\n',
        "d/b.toml": 'version = 2\nimports = ["../third.toml"]\n',
        "third.toml": f'version = 2\n[{CRI}]\nconfig_path = "/etc/third"\n',
    },
    "imports in a circle": {
        "config.toml": f'version = 2\nimports = ["FOLDER/d/*.toml"]\n[{CRI}]\nconfig_path = "/etc/a"\n',
        "d/b.toml": 'version = 2\nimports = ["FOLDER/d/*.toml"]\n',
    },
    "a pattern that matches nothing": {
        "config.toml": f'version = 2\nimports = ["/nowhere/*.toml"]\n[{CRI}]\nconfig_path = "/etc/a"\n'
    },
    "version 1": {"config.toml": '[plugins.cri.registry]\nconfig_path = "/etc/a"\n'},
}


def lay_out(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text.replace("FOLDER", str(folder)))
    return folder / "config.toml"


@pytest.mark.parametrize("files", CASES.values(), ids=CASES.keys())
def test_it_reads_what_containerd_reads(files: dict[str, str], tmp_path: Path) -> None:
    if shutil.which("containerd") is None:
        pytest.fail("containerd is not installed: apt-get install containerd runc")
    path = lay_out(tmp_path, files)
    dump = subprocess.run(
        ["containerd", "--config", path, "config", "dump"], capture_output=True, text=True, check=True, timeout=30
    )
    wanted = tomllib.loads(dump.stdout)["plugins"]["io.containerd.grpc.v1.cri"]["registry"]
    config = read_config(path)
    assert ":".join(map(str, config.config_path)) == wanted["config_path"]
    assert set(config.mirrors) == set(wanted["mirrors"])
    assert set(config.tls) == set(wanted["configs"])


def test_containerd_2(tmp_path: Path) -> None:
    path = lay_out(
        tmp_path,
        {"config.toml": "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/etc/a'\n"},
    )
    assert read_config(path) == ContainerdConfig(3, (Path("/etc/a"),))


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({}, id="no file"),
        pytest.param({"config.toml": "version = \n"}, id="no TOML"),
        pytest.param({"config.toml": 'imports = ["absent.toml"]\n'}, id="an import that is not there"),
    ],
)
def test_what_containerd_can_not_start_with(files: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigUnreadable, match="can not be read"):
        read_config(lay_out(tmp_path, files))


def test_values_of_the_wrong_kind_say_nothing(tmp_path: Path) -> None:
    path = lay_out(tmp_path, {"config.toml": f'version = "2"\nimports = "x"\n[{CRI}]\nconfig_path = 7\nmirrors = []\n'})
    assert read_config(path) == ContainerdConfig()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_section_that_is_advised_is_the_one_that_is_read(version: int, tmp_path: Path) -> None:
    text = f'version = {version}\n{plugin_section(version)}\nconfig_path = "/etc/a"\n'
    assert read_config(lay_out(tmp_path, {"config.toml": text})).config_path == (Path("/etc/a"),)
