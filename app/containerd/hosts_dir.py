"""containerd's folder of mirror files: peerd put into them, and everything put back.

    <hosts-dir>/                            the first folder of `config_path`
        ghcr.io/
            hosts.toml                      what containerd reads
            hosts.toml.before-peerd         the original: the very file, moved aside
        docker.io/
            hosts.toml
            hosts.toml.none-before-peerd    there was no such file in this folder
        registry.example_5000_/
            hosts.toml
            hosts.toml.no-folder-before-peerd     there was no such folder

The last two hold the text that peerd was put into: what containerd took for this registry from `_default`, which it does not
look into once the registry has a folder of its own. Usually that is nothing.

Every step is one atomic rename, link or unlink, and the record always stands before the file is touched; whichever step is
the last before a crash, containerd finds a whole file, and the next `install` or `restore` goes on from there. A file that
somebody edited meanwhile keeps the edit: then only peerd's block is taken out of it.
"""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from app.containerd import hosts_toml
from app.containerd.hosts_toml import HostsTomlRefused, Mirror
from app.containerd.registry_name import DEFAULT, RegistryName
from app.errors import PeerdError

_FILE = "hosts.toml"
_TEMPORARY = ".hosts.toml.peerd-new"
_NEW_FOLDER = ".peerd-new"
_OLD_FOLDER = ".peerd-old"
_MADE_BY_PEERD = ".made-by-peerd"

_FOLDER_MODE = 0o755
_FILE_MODE = 0o644


class HostsDirRefused(PeerdError):
    """A mirror file can not be written, read or put back; the message says which and why."""


class _Before(StrEnum):
    """What was there before peerd; the name of the record that says so."""

    FILE = "hosts.toml.before-peerd"
    NO_FILE = "hosts.toml.none-before-peerd"
    NO_FOLDER = "hosts.toml.no-folder-before-peerd"


class Outcome(StrEnum):
    """What was done about one registry."""

    INSTALLED = "installed"
    UNCHANGED = "unchanged"
    RESTORED = "restored"
    BLOCK_REMOVED = "edited since: only peerd's block taken out"
    NOT_INSTALLED = "not installed"


@dataclass(frozen=True, slots=True)
class MirrorFile:
    """One registry's file as it is now.

    Attributes:
        folder: its name, e.g. `docker.io` or `registry.example_5000_`.
        text: what containerd reads.
        installed: whether peerd's block is in it.
    """

    folder: str
    text: str
    installed: bool


class HostsDir:
    """Owns `<hosts-dir>` for as long as a call takes; calls of several processes wait for each other."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(self, registry: RegistryName, mirror_url: str, *, server: str | None = None) -> Outcome:
        """Make peerd at `mirror_url` the first host of `registry`.

        Args:
            registry: whose file is meant.
            mirror_url: peerd's node door as containerd reaches it.
            server: where the registry itself is reached; None for the usual place.

        Raises:
            HostsDirRefused: nothing was changed for this registry.
        """
        with self._reporting(registry.text):
            self._make()
            with self._locked():
                mirror = Mirror(mirror_url, server or registry.server)
                folder = self.folder(registry)
                self._clean(folder)
                if folder is None:
                    return self._install_folder(registry, mirror)
                return _install_file(folder, mirror)

    def restore(self, registry: RegistryName) -> Outcome:
        """Put back what was there before, byte for byte. Raises HostsDirRefused."""
        return self._restore_first(registry.folders)

    def restore_folder(self, name: str) -> Outcome:
        """The same for a folder as `files` names it. Raises HostsDirRefused."""
        return self._restore_first((name,))

    def files(self) -> list[MirrorFile]:
        """All mirror files, peerd's or not, by folder. Raises HostsDirRefused."""
        found = []
        with self._reporting("all registries"):
            for file in sorted(self.path.glob(f"*/{_FILE}")):
                if not file.parent.name.startswith("."):
                    text = _read(file)
                    found.append(MirrorFile(file.parent.name, text, hosts_toml.is_installed(text)))
        return found

    def ours(self) -> list[str]:
        """Folders that have something to be put back. Raises HostsDirRefused."""
        with self._reporting("all registries"):
            folders = [path for path in self.path.glob("[!.]*") if path.is_dir()]
            return sorted(path.name for path in folders if _record(path) is not None or _has_block(path / _FILE))

    def file(self, registry: RegistryName) -> MirrorFile | None:
        """What containerd reads for a registry: its own file, or that of `_default`. Raises HostsDirRefused."""
        with self._reporting(registry.text):
            folder = self.folder(registry) or self.path / DEFAULT
            if not (folder / _FILE).exists():
                return None
            text = _read(folder / _FILE)
            return MirrorFile(folder.name, text, hosts_toml.is_installed(text))

    def folder(self, registry: RegistryName) -> Path | None:
        """The registry's own folder, as containerd would find it."""
        return self._first(registry.folders)

    def _install_folder(self, registry: RegistryName, mirror: Mirror) -> Outcome:
        """Make a folder that appears at once with all that is in it: an empty one would hide `_default` from containerd."""
        base, mirror = self._inherited(registry, mirror)
        new = self.path / _NEW_FOLDER
        new.mkdir(_FOLDER_MODE)
        _write(new / _Before.NO_FOLDER, base)
        _write(new / _FILE, hosts_toml.install(base, mirror))
        _sync(new)
        new.rename(self.path / registry.new_folder)
        _sync(self.path)
        return Outcome.INSTALLED

    def _inherited(self, registry: RegistryName, mirror: Mirror) -> tuple[str, Mirror]:
        """What containerd took from `_default` for a registry without a folder."""
        default = self.path / DEFAULT
        if registry.text == DEFAULT or not default.is_dir():
            return "", mirror
        text = hosts_toml.remove(_read(default / _FILE)) if (default / _FILE).exists() else ""
        prefix = f"../{DEFAULT}/"
        if text == "":
            return "", _with_certificates(mirror, default, prefix)
        return hosts_toml.rebase(text, prefix), mirror

    def _first(self, names: tuple[str, ...]) -> Path | None:
        return next((path for name in names if (path := self.path / name).exists()), None)

    def _restore_first(self, names: tuple[str, ...]) -> Outcome:
        if not self.path.exists():
            return Outcome.NOT_INSTALLED
        with self._reporting(names[0]), self._locked():
            folder = self._first(names)
            self._clean(folder)
            outcome = self._restore(folder) if folder is not None else Outcome.NOT_INSTALLED
            self._unmake()
            return outcome

    def _restore(self, folder: Path) -> Outcome:
        file = folder / _FILE
        record = _record(folder)
        if record is None:
            if not file.exists() or not hosts_toml.is_installed(text := _read(file)):
                return Outcome.NOT_INSTALLED
            _write(file, hosts_toml.remove(text), like=file)
            return Outcome.BLOCK_REMOVED
        before = folder / record
        if file.exists() and (rest := hosts_toml.remove(_read(file))) != hosts_toml.remove(_read(before)):
            _write(file, rest, like=file)
            before.unlink()
            _sync(folder)
            return Outcome.BLOCK_REMOVED
        match record:
            case _Before.FILE:
                _put_back(before, file)
            case _Before.NO_FILE:
                file.unlink(missing_ok=True)
                before.unlink()
            case _Before.NO_FOLDER if {entry.name for entry in folder.iterdir()} <= {_FILE, record}:
                folder.rename(self.path / _OLD_FOLDER)
                _sync(self.path)
                self._clean(None)
                return Outcome.RESTORED
            case _Before.NO_FOLDER:
                # Somebody keeps files of his own in it by now.
                file.unlink(missing_ok=True)
                before.unlink()
        _sync(folder)
        return Outcome.RESTORED

    def _make(self) -> None:
        if not self.path.exists():
            self.path.mkdir(_FOLDER_MODE, parents=True)
            _write(self.path / _MADE_BY_PEERD, "")

    def _unmake(self) -> None:
        """Remove the whole folder if it was made here and nothing is left in it."""
        if [entry.name for entry in self.path.iterdir()] == [_MADE_BY_PEERD]:
            (self.path / _MADE_BY_PEERD).unlink()
            self.path.rmdir()

    def _clean(self, folder: Path | None) -> None:
        """Remove what a crash left behind; containerd never looked at it."""
        if folder is not None:
            (folder / _TEMPORARY).unlink(missing_ok=True)
        for name in (_NEW_FOLDER, _OLD_FOLDER):
            if (self.path / name).exists():
                shutil.rmtree(self.path / name)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder against other processes of peerd. No file of its own, so none is left behind."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _reporting(self, what: str) -> Iterator[None]:
        """Say which registry an error is about."""
        try:
            yield
        except HostsTomlRefused as error:
            raise HostsDirRefused(f"{self.path}, {what}: {_FILE} is left as it is: {error}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise HostsDirRefused(f"{self.path}, {what}: {error}") from error


def _has_block(file: Path) -> bool:
    """Whether peerd's block is in a file, which may be one that can not be understood: it is somebody else's then."""
    return file.exists() and hosts_toml.is_installed(file.read_text(encoding="utf-8", errors="replace"))


def _install_file(folder: Path, mirror: Mirror) -> Outcome:
    """Put peerd into the file of a folder that exists, whether the file does or not."""
    file = folder / _FILE
    current = _read(file) if file.exists() else None
    base = hosts_toml.remove(current or "")
    record = _record(folder)
    if not base:
        mirror = _with_certificates(mirror, folder, "")
        if record is _Before.NO_FOLDER and not mirror.ca and not mirror.client:
            mirror = _with_certificates(mirror, folder.parent / DEFAULT, f"../{DEFAULT}/")
    wanted = hosts_toml.install(base, mirror)
    if record is not None and hosts_toml.remove(_read(folder / record)) != base:
        # Edited or replaced since: what is there now, less the block, is what is to be put back.
        _write(folder / record, base)
    if wanted == current:
        return Outcome.UNCHANGED
    if record is None:
        _keep(folder, current)
    _write(file, wanted, like=file if current is not None else None)
    return Outcome.INSTALLED


def _with_certificates(mirror: Mirror, folder: Path, prefix: str) -> Mirror:
    """The certificates that containerd takes from a folder without a `hosts.toml` (`loadCertFiles` in its `hosts.go`).

    `*.crt` are authorities, `*.cert` are certificates whose key is the `.key` of the same name or else in the same file.
    """
    names = sorted(entry.name for entry in folder.iterdir() if not entry.is_dir()) if folder.is_dir() else []
    ca = [prefix + name for name in names if name.endswith(".crt")]
    client = []
    for name in names:
        if name.endswith(".cert"):
            key = name.removesuffix(".cert") + ".key"
            client.append((prefix + name, prefix + (key if key in names else name)))
    return replace(mirror, ca=ca, client=client)


def _record(folder: Path) -> _Before | None:
    return next((before for before in _Before if os.path.lexists(folder / before)), None)


def _keep(folder: Path, current: str | None) -> None:
    """Record what is there before the file is touched for the first time."""
    file, record = folder / _FILE, folder / _Before.FILE
    if current is None:
        _write(folder / _Before.NO_FILE, "")
    elif hosts_toml.is_installed(current):
        # A block whose record got lost.
        _write(record, hosts_toml.remove(current), like=file)
    else:
        try:
            # The very file, with its owner and times; a link where it is a symbolic one.
            os.link(file, record, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.ENOSYS):
                raise
            _write(record, current, like=file)
        _sync(folder)


def _put_back(record: Path, file: Path) -> None:
    """Make the record the file again, in one step."""
    if os.path.lexists(file) and os.path.samestat(record.lstat(), file.lstat()):
        # Two names of one file, as a crash before the first write leaves them: rename(2) does nothing with such.
        record.unlink()
    else:
        record.rename(file)


def _read(file: Path) -> str:
    """The text byte for byte: no newline is translated."""
    return file.read_bytes().decode()


def _write(file: Path, text: str, *, like: Path | None = None) -> None:
    """Replace a file in one step, with the mode and owner of `like`; on disk when this returns."""
    temporary = file.with_name(_TEMPORARY)
    with temporary.open("wb") as opened:
        opened.write(text.encode())
        if like is not None:
            status = like.stat()
            os.fchown(opened.fileno(), status.st_uid, status.st_gid)
            os.fchmod(opened.fileno(), status.st_mode & 0o7777)
        else:
            os.fchmod(opened.fileno(), _FILE_MODE)
        opened.flush()
        os.fsync(opened.fileno())
    temporary.rename(file)
    _sync(file.parent)


def _sync(folder: Path) -> None:
    """Make renames in a folder outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
