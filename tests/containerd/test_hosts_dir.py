"""The folder of mirror files: put back exactly, whatever was there, and wherever a crash happened."""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.containerd import hosts_dir, hosts_toml
from app.containerd.hosts_dir import HostsDir, HostsDirRefused, MirrorFile, Outcome
from app.containerd.registry_name import RegistryName
from tests.containerd.hosts_texts import hosts_texts

URL = "http://127.0.0.1:5000"
REGISTRIES = ["ghcr.io", "docker.io", "registry.example:5000", "[2001:db8::1]:5000", "_default", "localhost:5000"]

Tree = dict[str, tuple[int, bytes | str | None]]


def tree(root: Path) -> Tree:
    """Everything below a folder: mode and bytes, or where a link leads."""
    found: Tree = {}
    for path in root.rglob("*"):
        status = path.lstat()
        content: bytes | str | None = None
        if stat.S_ISLNK(status.st_mode):
            content = str(path.readlink())
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        found[str(path.relative_to(root))] = (status.st_mode, content)
    return found


@st.composite
def existing_folders(draw: st.DrawFn) -> dict[str, str]:
    """Files of a folder of mirror files, by path."""
    files: dict[str, str] = {}
    for folder in ["ghcr.io", "docker.io", "registry.example_5000_", "registry.example:5000", "_default"]:
        for name, text in (("hosts.toml", hosts_texts()), ("ca.crt", st.just("c")), ("a.cert", st.just("k"))):
            if draw(st.integers(0, 2)) == 0:
                files[f"{folder}/{name}"] = draw(text)
        if draw(st.integers(0, 3)) == 0:
            files[f"{folder}/"] = ""
    return files


def lay_out(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())


@pytest.fixture(scope="module")
def scratch() -> Iterator[Callable[[], Path]]:
    """New folders, for tests that need one an example."""
    with tempfile.TemporaryDirectory(prefix="peerd-hosts-") as folder:
        yield lambda: Path(tempfile.mkdtemp(dir=folder))


@settings(deadline=None)
@given(existing_folders(), st.lists(st.sampled_from(REGISTRIES), unique=True, min_size=1))
def test_install_then_restore_is_the_identity(
    scratch: Callable[[], Path], files: dict[str, str], names: list[str]
) -> None:
    root = scratch()
    lay_out(root, files)
    before = tree(root)
    folder = HostsDir(root)
    registries = [RegistryName.parse(name) for name in names]
    for registry in registries:
        assert folder.install(registry, URL) is Outcome.INSTALLED
    for registry in registries:
        file = folder.file(registry)
        assert file is not None
        assert hosts_toml.hosts(file.text)[0] == URL
    for registry in registries:
        assert folder.restore(registry) is Outcome.RESTORED
    assert tree(root) == before


@settings(deadline=None)
@given(existing_folders(), st.lists(st.sampled_from(REGISTRIES), unique=True, min_size=1))
def test_install_twice_is_install_once(scratch: Callable[[], Path], files: dict[str, str], names: list[str]) -> None:
    root = scratch()
    lay_out(root, files)
    folder = HostsDir(root)
    for name in names:
        folder.install(RegistryName.parse(name), URL)
    once = tree(root)
    inodes = {path: path.stat().st_ino for path in root.rglob("*")}
    for name in names:
        assert folder.install(RegistryName.parse(name), URL) is Outcome.UNCHANGED
    assert tree(root) == once
    assert {path: path.stat().st_ino for path in root.rglob("*")} == inodes


class Crash(BaseException):
    """The process ends here."""


class Steps:
    """Lets so many changes of the disk happen, then crashes before each further one."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left = 10**6
        self.done = 0
        for owner, name in [
            (os, "link"),
            (os, "fsync"),
            (os, "fchmod"),
            (Path, "rename"),
            (Path, "unlink"),
            (Path, "mkdir"),
            (Path, "rmdir"),
            (Path, "open"),
            (shutil, "rmtree"),
        ]:
            patch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, function: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **kwargs: object) -> object:
            if self.left == 0:
                raise Crash
            self.left -= 1
            self.done += 1
            return function(*args, **kwargs)

        return counted


ORIGINAL = '# by hand\r\n[host."https://cache.example"]\r\nca = "x"\r\n'
SITUATIONS = [
    pytest.param({"ghcr.io/hosts.toml": ORIGINAL}, id="a file"),
    pytest.param({"ghcr.io/": ""}, id="an empty folder"),
    pytest.param({"ghcr.io/ca.crt": "c"}, id="certificates only"),
    pytest.param({}, id="no folder"),
    pytest.param({"_default/hosts.toml": ORIGINAL}, id="no folder, and a default"),
]


def seen_by_containerd(root: Path, registry: RegistryName) -> str | None:
    """What containerd would read for a registry: its folder hides the default, even when it is empty."""
    for name in (*registry.folders, "_default"):
        if (root / name).exists():
            file = root / name / "hosts.toml"
            return file.read_bytes().decode() if file.exists() else None
    return None


@pytest.mark.parametrize("files", SITUATIONS)
@pytest.mark.parametrize("restoring", [False, True], ids=["install", "restore"])
def test_a_crash_between_any_two_steps_loses_nothing(files: dict[str, str], restoring: bool, tmp_path: Path) -> None:
    registry = RegistryName.parse("ghcr.io")

    def prepare(root: Path) -> HostsDir:
        lay_out(root, files)
        folder = HostsDir(root)
        if restoring:
            folder.install(registry, URL)
        return folder

    def act(folder: HostsDir) -> object:
        return folder.restore(registry) if restoring else folder.install(registry, URL)

    (tmp_path / "original").mkdir()
    lay_out(tmp_path / "original", files)
    original = tree(tmp_path / "original")
    whole = {seen_by_containerd(tmp_path / "original", registry)}
    HostsDir(tmp_path / "original").install(registry, URL)
    installed = tree(tmp_path / "original")
    whole.add(seen_by_containerd(tmp_path / "original", registry))

    crashes = 0
    for steps_done in range(200):
        roots = [tmp_path / f"{steps_done}-then-{after}" for after in ("restore", "install")]
        for root in roots:
            root.mkdir()
            folder = prepare(root)
            with pytest.MonkeyPatch.context() as patch:
                steps = Steps(patch)
                steps.left = steps_done
                try:
                    act(folder)
                except Crash:
                    crashes += 1
            assert seen_by_containerd(root, registry) in whole, f"after {steps_done} steps"
        HostsDir(roots[0]).restore(registry)
        assert tree(roots[0]) == original, f"restored after {steps_done} steps"
        HostsDir(roots[1]).install(registry, URL)
        assert tree(roots[1]) == installed, f"installed after {steps_done} steps"
        if steps.left > 0:
            break
    assert crashes >= 10, "a crash was to happen at every step"


def test_an_edit_after_install_survives_restore(tmp_path: Path) -> None:
    lay_out(tmp_path, {"ghcr.io/hosts.toml": ORIGINAL})
    folder, registry = HostsDir(tmp_path), RegistryName.parse("ghcr.io")
    folder.install(registry, URL)
    file = tmp_path / "ghcr.io" / "hosts.toml"
    file.write_bytes(file.read_bytes() + b"skip_verify = true\n")
    assert folder.restore(registry) is Outcome.BLOCK_REMOVED
    assert file.read_bytes().decode() == ORIGINAL + "skip_verify = true\n"
    assert [path.name for path in file.parent.iterdir()] == ["hosts.toml"]


def test_a_file_that_was_replaced_meanwhile_is_the_one_that_is_put_back(tmp_path: Path) -> None:
    lay_out(tmp_path, {"ghcr.io/hosts.toml": ORIGINAL})
    folder, registry = HostsDir(tmp_path), RegistryName.parse("ghcr.io")
    folder.install(registry, URL)
    file = tmp_path / "ghcr.io" / "hosts.toml"
    file.write_text('server = "https://new.example"\n')
    assert folder.install(registry, URL) is Outcome.INSTALLED
    assert folder.restore(registry) is Outcome.RESTORED
    assert file.read_text() == 'server = "https://new.example"\n'


def test_files_that_were_put_into_a_folder_of_peerds_keep_the_folder(tmp_path: Path) -> None:
    folder, registry = HostsDir(tmp_path), RegistryName.parse("ghcr.io")
    folder.install(registry, URL)
    (tmp_path / "ghcr.io" / "ca.crt").write_text("c")
    assert folder.restore(registry) is Outcome.RESTORED
    assert [path.name for path in (tmp_path / "ghcr.io").iterdir()] == ["ca.crt"]


def test_mode_and_symbolic_link_are_put_back(tmp_path: Path) -> None:
    lay_out(tmp_path, {"ghcr.io/hosts.toml": ORIGINAL, "elsewhere.toml": ORIGINAL, "docker.io/": ""})
    (tmp_path / "ghcr.io" / "hosts.toml").chmod(0o600)
    (tmp_path / "docker.io" / "hosts.toml").symlink_to("../elsewhere.toml")
    before = tree(tmp_path)
    folder = HostsDir(tmp_path)
    for name in ("ghcr.io", "docker.io"):
        folder.install(RegistryName.parse(name), URL)
    assert stat.S_IMODE((tmp_path / "ghcr.io" / "hosts.toml").stat().st_mode) == 0o600
    assert (tmp_path / "elsewhere.toml").read_bytes().decode() == ORIGINAL
    for name in ("ghcr.io", "docker.io"):
        folder.restore(RegistryName.parse(name))
    assert tree(tmp_path) == before


def test_a_disk_without_hard_links_keeps_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(hosts_dir.os, "link", refuse)
    lay_out(tmp_path, {"ghcr.io/hosts.toml": ORIGINAL})
    before = tree(tmp_path)
    folder, registry = HostsDir(tmp_path), RegistryName.parse("ghcr.io")
    folder.install(registry, URL)
    folder.restore(registry)
    assert tree(tmp_path) == before


def test_the_default_goes_on_for_a_registry_that_gets_a_folder(tmp_path: Path) -> None:
    lay_out(
        tmp_path, {"_default/hosts.toml": 'ca = "corp.pem"\n[host."https://cache.example"]\n', "_default/corp.pem": "c"}
    )
    folder = HostsDir(tmp_path)
    folder.install(RegistryName.parse("ghcr.io"), URL)
    file = folder.file(RegistryName.parse("ghcr.io"))
    assert file is not None
    assert file.folder == "ghcr.io"
    assert hosts_toml.hosts(file.text) == [URL, "https://cache.example", "https://ghcr.io"]
    assert file.text.startswith('ca = "../_default/corp.pem"\n')


def test_certificates_that_containerd_found_by_itself_are_named(tmp_path: Path) -> None:
    files = {"ghcr.io/ca.crt": "", "ghcr.io/a.cert": "", "ghcr.io/a.key": "", "ghcr.io/both.cert": ""}
    lay_out(tmp_path, {**files, "_default/corp.crt": ""})
    folder = HostsDir(tmp_path)
    folder.install(RegistryName.parse("ghcr.io"), URL)
    folder.install(RegistryName.parse("docker.io"), URL)
    own = (tmp_path / "ghcr.io" / "hosts.toml").read_text()
    assert 'ca = ["ca.crt"]\nclient = [["a.cert", "a.key"], ["both.cert", "both.cert"]]\n' in own
    assert 'ca = ["../_default/corp.crt"]\n' in (tmp_path / "docker.io" / "hosts.toml").read_text()
    (tmp_path / "ghcr.io" / "more.crt").write_text("")
    assert folder.install(RegistryName.parse("ghcr.io"), URL) is Outcome.INSTALLED
    assert 'ca = ["ca.crt", "more.crt"]\n' in (tmp_path / "ghcr.io" / "hosts.toml").read_text()


def test_where_the_registry_is_reached_can_be_told(tmp_path: Path) -> None:
    folder, registry = HostsDir(tmp_path), RegistryName.parse("example.local")
    folder.install(registry, URL, server="http://127.0.0.1:5500")
    file = folder.file(registry)
    assert file is not None
    assert hosts_toml.hosts(file.text) == [URL, "http://127.0.0.1:5500"]


def test_a_folder_that_is_there_is_used_as_containerd_would(tmp_path: Path) -> None:
    lay_out(tmp_path, {"registry.example:5000/": ""})
    folder, registry = HostsDir(tmp_path), RegistryName.parse("registry.example:5000")
    folder.install(registry, URL)
    assert [path.name for path in tmp_path.iterdir()] == ["registry.example:5000"]


def test_the_whole_folder_is_removed_when_it_was_made(tmp_path: Path) -> None:
    folder = HostsDir(tmp_path / "etc" / "certs.d")
    assert folder.restore(RegistryName.parse("ghcr.io")) is Outcome.NOT_INSTALLED
    folder.install(RegistryName.parse("ghcr.io"), URL)
    folder.install(RegistryName.parse("_default"), URL)
    assert [file.folder for file in folder.files()] == ["_default", "ghcr.io"]
    assert folder.restore_folder("_default") is Outcome.RESTORED
    assert folder.path.exists()
    assert folder.restore_folder("ghcr.io") is Outcome.RESTORED
    assert not folder.path.exists()


def test_what_is_not_peerds_is_listed_and_left_alone(tmp_path: Path) -> None:
    lay_out(tmp_path, {"ghcr.io/hosts.toml": ORIGINAL})
    before = tree(tmp_path)
    folder = HostsDir(tmp_path)
    assert folder.files() == [MirrorFile("ghcr.io", ORIGINAL, installed=False)]
    assert folder.restore(RegistryName.parse("ghcr.io")) is Outcome.NOT_INSTALLED
    assert tree(tmp_path) == before


@pytest.mark.parametrize("text", ["[host", "\xff\xfe"], ids=["no TOML", "no UTF-8"])
def test_a_file_that_nobody_can_read_is_refused_and_left_alone(text: str, tmp_path: Path) -> None:
    (tmp_path / "ghcr.io").mkdir()
    (tmp_path / "ghcr.io" / "hosts.toml").write_bytes(text.encode("latin-1"))
    before = tree(tmp_path)
    with pytest.raises(HostsDirRefused, match=r"ghcr\.io"):
        HostsDir(tmp_path).install(RegistryName.parse("ghcr.io"), URL)
    assert tree(tmp_path) == before
