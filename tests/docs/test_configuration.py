"""What README says to write into others' configuration files is what works."""

import json
import tomllib
from pathlib import Path

from click.testing import CliRunner

from app.cli import main
from app.containerd.config_toml import USUAL_MIRROR_FOLDER, read_config
from app.settings import Settings
from tests.docs.markdown import Page

README = Page.named("README.md")
HOSTS_TOML, CONFIG_TOML = README.blocks("toml")
# Where containerd 1 looks, and 2.
OF_1, OF_2 = "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"


def test_hosts_toml_is_what_peerd_writes(tmp_path: Path) -> None:
    run = CliRunner().invoke(main, ["hosts", "install", "--hosts", "docker.io", "--hosts-dir", str(tmp_path)])
    assert run.exit_code == 0, run.output
    assert tomllib.loads((tmp_path / "docker.io" / "hosts.toml").read_text()) == tomllib.loads(HOSTS_TOML)


def test_config_toml_names_the_folder_that_peerd_writes_into(tmp_path: Path) -> None:
    assert OF_2 in README.prose
    for version, text in ((2, CONFIG_TOML), (3, CONFIG_TOML.replace(OF_1, OF_2))):
        config = tmp_path / "config.toml"
        config.write_text(f"version = {version}\n{text}")
        assert read_config(config).config_path == (USUAL_MIRROR_FOLDER,)


def test_overlaybd_is_sent_to_the_door() -> None:
    (block,) = README.blocks("json")
    p2p = json.loads(f"{{{block}}}")["p2pConfig"]
    assert p2p == {"enable": True, "address": f"http://{Settings.model_fields['http_addr'].default}/blobs"}
