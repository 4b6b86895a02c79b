"""The mirror files that a node keeps for its `--hosts` (end to end: tests/helm/test_commands.py)."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from app.containerd.hosts_dir import Outcome
from app.containerd.mirrors import Done, install_mirrors, keep_mirrors, restore_mirrors
from app.settings.values import Address, MirroredRegistry, RegistryLocation

ADMINISTRATORS = '# my own\nserver = "https://quay.example"\n'

ADDRESS = Address("127.0.0.1", 5000)


@dataclass(frozen=True)
class Options:
    """Those of a node that was started with these `--hosts`."""

    hosts: tuple[MirroredRegistry, ...]
    hosts_dir: Path
    containerd_config: Path = Path("/nonexistent")
    http_addr: Address = ADDRESS
    registry: tuple[RegistryLocation, ...] = ()

    @classmethod
    def of(cls, folder: Path, *names: str) -> "Options":
        return cls(tuple(MirroredRegistry.parse(name) for name in names), folder)


def mirrored(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob("*/hosts.toml") if "127.0.0.1:5000" in path.read_text()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Written for some registries, one of which has a file of its own."""
    (tmp_path / "quay.io").mkdir()
    (tmp_path / "quay.io" / "hosts.toml").write_text(ADMINISTRATORS)
    install_mirrors(Options.of(tmp_path, "docker.io", "quay.io", "example.local:5000"))
    return tmp_path


def test_what_is_named_no_more_is_put_back(folder: Path) -> None:
    assert keep_mirrors(Options.of(folder, "docker.io", "ghcr.io")) == [
        Done("docker.io", Outcome.UNCHANGED),
        Done("ghcr.io", Outcome.INSTALLED),
        Done("example.local_5000_", Outcome.RESTORED),
        Done("quay.io", Outcome.RESTORED),
    ]
    assert mirrored(folder) == {"docker.io", "ghcr.io"}
    assert (folder / "quay.io" / "hosts.toml").read_text() == ADMINISTRATORS
    assert not (folder / "example.local_5000_").exists()


@pytest.mark.parametrize("name", ["example.local:5000", "http://example.local:5000"])
def test_what_is_named_still_stays_however_its_folder_is_called(name: str, folder: Path) -> None:
    keep_mirrors(Options.of(folder, name))
    assert mirrored(folder) == {"example.local_5000_"}


def test_all_in_place_of_some(folder: Path) -> None:
    keep_mirrors(Options.of(folder, "_default"))
    assert mirrored(folder) == {"_default"}


def test_a_node_that_is_told_of_no_registry_leaves_all_as_it_is(folder: Path) -> None:
    assert keep_mirrors(Options.of(folder)) == []
    assert mirrored(folder) == {"docker.io", "quay.io", "example.local_5000_"}


def test_one_that_can_not_be_put_back_keeps_back_no_other(folder: Path) -> None:
    (folder / "quay.io" / "hosts.toml").write_bytes(b"\xff")
    done = {one.name: one for one in keep_mirrors(Options.of(folder, "ghcr.io"))}
    assert f"{folder}, quay.io" in str(done["quay.io"].refusal)
    assert done["docker.io"].outcome is Outcome.RESTORED
    assert (folder / "quay.io" / "hosts.toml").read_bytes() == b"\xff"


def test_somebody_elses_file_that_nobody_can_read_is_no_obstacle(folder: Path) -> None:
    (folder / "gcr.io").mkdir()
    (folder / "gcr.io" / "hosts.toml").write_bytes(b"\xff")
    assert [one.name for one in keep_mirrors(Options.of(folder, "docker.io", "quay.io"))] == [
        *("docker.io", "quay.io", "example.local_5000_")
    ]
    assert {one.outcome for one in restore_mirrors(Options.of(folder))} == {Outcome.RESTORED}
