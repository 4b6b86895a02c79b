"""`peerd hosts` as an operator types it."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli import main


def peerd(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["hosts", *map(str, arguments)], env={"PEERD_CONFIG": ""})


def test_install_show_restore(tmp_path: Path) -> None:
    installed = peerd(
        "install", "--hosts", "docker.io ghcr.io", "--hosts-dir", tmp_path, "--http-addr", "127.0.0.1:30000"
    )
    assert (installed.exit_code, installed.output) == (
        0,
        f"docker.io: installed ({tmp_path})\nghcr.io: installed ({tmp_path})\n",
    )
    shown = peerd("show", "--hosts-dir", tmp_path)
    assert shown.exit_code == 0
    assert f"{tmp_path}/docker.io/hosts.toml: peerd is the first host\n" in shown.output
    assert 'server = "https://registry-1.docker.io"\n\n[host."http://127.0.0.1:30000"]\n' in shown.output
    again = peerd("install", "--hosts", "docker.io", "--hosts-dir", tmp_path, "--http-addr", "127.0.0.1:30000")
    assert again.output == f"docker.io: unchanged ({tmp_path})\n"
    one = peerd("restore", "--hosts", "docker.io", "--hosts-dir", tmp_path)
    assert one.output == f"docker.io: restored ({tmp_path})\n"
    rest = peerd("restore", "--hosts-dir", tmp_path)
    assert rest.output == f"ghcr.io: restored ({tmp_path})\n"
    assert list(tmp_path.iterdir()) == []
    assert peerd("restore", "--hosts-dir", tmp_path).output == f"{tmp_path}: no mirror file is peerd's\n"
    assert peerd("show", "--hosts-dir", tmp_path).output == f"{tmp_path}: no mirror files\n"


def test_the_folder_is_the_one_that_containerd_looks_into(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "{tmp_path}/a:{tmp_path}/b"\n'
    )
    peerd("install", "--hosts", "docker.io", "--containerd-config", config)
    assert (tmp_path / "a" / "docker.io" / "hosts.toml").exists()


@pytest.mark.parametrize(
    ("arguments", "server"),
    [
        (["--hosts", "example.local", "--registry", "example.local=http://127.0.0.1:5500"], "http://127.0.0.1:5500"),
        (["--hosts", "http://example.local"], "http://example.local"),
        (["--hosts", "https://example.local"], "https://example.local"),
    ],
)
def test_the_registry_itself_is_where_the_options_say(arguments: list[str], server: str, tmp_path: Path) -> None:
    peerd("install", *arguments, "--hosts-dir", tmp_path)
    assert f'server = "{server}"\n' in (tmp_path / "example.local" / "hosts.toml").read_text()


def test_a_file_that_is_refused_keeps_back_no_other(tmp_path: Path) -> None:
    (tmp_path / "docker.io").mkdir()
    (tmp_path / "docker.io" / "hosts.toml").write_text("[host")
    run = peerd("install", "--hosts", "docker.io", "--hosts", "ghcr.io", "--hosts-dir", tmp_path)
    assert run.exit_code == 1
    assert f"docker.io: {tmp_path}, docker.io: hosts.toml is left as it is: it is not TOML" in run.output
    assert (tmp_path / "ghcr.io" / "hosts.toml").exists()


def test_install_wants_to_know_which(tmp_path: Path) -> None:
    run = peerd("install", "--hosts-dir", tmp_path)
    assert run.exit_code == 2
    assert "--hosts docker.io" in run.output
