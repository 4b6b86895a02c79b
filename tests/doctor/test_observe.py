"""How the doctor comes by its facts: real files, real sockets, a real containerd."""

import datetime as dt
import ipaddress
import json
import socket
from pathlib import Path

from click.testing import CliRunner

from app.cli import main
from app.cli.authority import Credentials, issue, new_authority
from app.doctor.observe import (
    observe_certificate,
    observe_clock,
    observe_config,
    observe_containerd,
    observe_disk,
    observe_door,
)
from app.settings import Settings, TlsFiles, load_settings
from tests.containerd.daemon import Containerd
from tests.containerd.registry import tiny_registry

NOW = dt.datetime.now(dt.UTC)


def settings(**options: object) -> Settings:
    return load_settings({name: str(value) for name, value in options.items()}, {})


def test_a_containerd_says_its_version() -> None:
    containerd = Containerd()
    try:
        assert observe_containerd(containerd.socket).error == "no such socket"
        containerd.start()
        facts = observe_containerd(containerd.socket)
        assert facts.error is None
        assert facts.version is not None
        assert facts.version.startswith("1.")
    finally:
        containerd.close()


def test_a_socket_that_nobody_serves_any_more(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    facts = observe_containerd(path)
    assert facts.version is None
    assert "UNAVAILABLE" in str(facts.error)


def test_the_configuration_and_where_mirror_files_go(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    assert observe_config(settings(containerd_config=config)).config is None
    config.write_text(f'version = 3\n[plugins."io.containerd.cri.v1.images".registry]\nconfig_path = "{tmp_path}/d"\n')
    facts = observe_config(settings(containerd_config=config))
    assert facts.config is not None
    assert facts.config.config_path == (facts.mirror_folder,) == (tmp_path / "d",)


def test_a_door_that_is_not_peerds_and_one_that_is_shut() -> None:
    with tiny_registry(None) as registry:
        url = registry.url
        assert observe_door(url).error == "/v2/ is answered 404: not peerd"
    assert observe_door(url).error == "Connection refused"


def write(credentials: Credentials, folder: Path, name: str) -> tuple[Path, Path]:
    credentials.write(folder / f"{name}.crt", folder / f"{name}.key")
    return folder / f"{name}.crt", folder / f"{name}.key"


def test_a_certificate_of_the_clusters_ca_and_one_of_anothers(tmp_path: Path) -> None:
    authority, other = new_authority(days=10, now=NOW), new_authority(days=10, now=NOW)
    ca, _ = write(authority, tmp_path, "ca")
    other_ca, _ = write(other, tmp_path, "other")
    node = issue(authority, "node-a", [ipaddress.ip_address("127.0.0.1")], days=5, now=NOW)
    cert, key = write(node, tmp_path, "node-a")
    facts = observe_certificate(TlsFiles(ca, cert, key), "node-a")
    assert (facts.names, facts.trusted, facts.keyed, facts.error) == (("node-a.peerd",), True, True, None)
    assert facts.ends is not None
    assert (facts.ends - NOW).days in (4, 5)
    assert not observe_certificate(TlsFiles(other_ca, cert, key), "node-a").trusted
    assert not observe_certificate(TlsFiles(ca, cert, tmp_path / "ca.key"), "node-a").keyed
    assert observe_certificate(TlsFiles(ca, tmp_path / "absent", key), "node-a").error == "No such file or directory"


def test_room_for_a_cache_whose_folder_is_still_to_be_made(tmp_path: Path) -> None:
    facts = observe_disk(settings(cache_dir=tmp_path / "a" / "b"), None)
    assert facts.error is None
    assert facts.free_bytes > 0
    assert facts.quota_bytes == 10 << 30


def test_the_clock_is_this_machines() -> None:
    facts = observe_clock()
    assert abs(facts.now - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)
    assert facts.synchronised in (True, False, None)


def test_the_whole_command_on_a_machine_with_nothing(tmp_path: Path) -> None:
    options = {
        "--node": "http://127.0.0.1:1",
        "--hosts": "ghcr.io",
        "--hosts-dir": tmp_path,
        "--containerd-config": tmp_path / "config.toml",
        "--containerd-socket": tmp_path / "sock",
        "--cache-dir": tmp_path,
        "--http-addr": "127.0.0.1:1",
    }
    run = CliRunner().invoke(main, ["doctor", *(str(part) for option in options.items() for part in option)])
    assert run.exit_code == 1
    verdicts = [line.split()[:2] for line in run.output.splitlines() if not line.startswith(" ")]
    assert verdicts[:4] == [
        ["failed", "containerd:"],
        ["failed", "config_path:"],
        ["failed", "mirror"],
        ["failed", "mirror"],
    ]
    as_json = CliRunner().invoke(
        main, ["doctor", "--json", *(str(part) for option in options.items() for part in option)]
    )
    subjects = [finding["subject"] for finding in json.loads(as_json.output)]
    assert subjects == ["containerd", "config_path", "mirror of ghcr.io", "mirror door", "node", "clock", "disk"]
