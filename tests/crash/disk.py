"""A disk that loses what was not synced, beside the real one.

A folder is watched while a program works in it: before each step that changes names, Python's audit events tell of it (PEP 578),
and what there is by then is noted down. From the notes folders are made as a power loss could have left them:

- names (creations, renames, deletions) are as they were after some step, as on a file system that keeps a journal of them;
- each sector of each file is, for itself, one that was there at any time since it was last surely on disk, zeros included;
- so is each file's length, and what it has beyond its sectors is zeros.

So data may be older or newer than the names, and one write may be torn at any 512 bytes. No order is kept but that of names: more is
lost than on any one file system, where ext4 for one writes new blocks out before the names that lead to them.
"""

import os
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SECTOR_BYTES = 512
_ZEROS = bytes(SECTOR_BYTES)
_CHANGES = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate"})

Tree = dict[str, "_File | None"]
"""What a folder has, by path: files, and None for folders."""


class _File:
    """What a file has been since it was last surely on disk. Its descriptor keeps its number from being another's."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.sizes = [0]
        self.sectors: dict[int, list[bytes]] = {}
        self._data = b""

    def look(self) -> None:
        data = os.pread(self.fd, os.fstat(self.fd).st_size, 0)
        if data == self._data and self.sizes[-1] == len(data):
            return
        for index in range(-(-max(len(data), len(self._data)) // SECTOR_BYTES)):
            sector = data[index * SECTOR_BYTES : (index + 1) * SECTOR_BYTES].ljust(SECTOR_BYTES, b"\0")
            versions = self.sectors.setdefault(index, [_ZEROS])
            if versions[-1] != sector:
                versions.append(sector)
        self.sizes.append(len(data))
        self._data = data

    def settle(self) -> None:
        self.sizes = self.sizes[-1:]
        self.sectors = {index: versions[-1:] for index, versions in self.sectors.items()}

    def survivor(self, rng: random.Random) -> bytes:
        """The file after a power loss: as it is, as it was, or some of each."""
        fate = rng.choice(("new", "old", "mixed", "mixed"))

        def pick(versions: list[Any]) -> Any:
            return versions[-1] if fate == "new" else versions[0] if fate == "old" else rng.choice(versions)

        data = b"".join(pick(self.sectors.get(index, [_ZEROS])) for index in range(-(-max(self.sizes) // SECTOR_BYTES)))
        size = pick(self.sizes)
        return data[:size].ljust(size, b"\0")


class Disk:
    """The disk below one folder, from now until `close`. What is there already is surely on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files: dict[int, _File] = {}
        self._trees: list[Tree] = []
        self._lock = threading.Lock()
        self.settle()
        _watched[str(root)] = self
        _listen()

    def close(self) -> None:
        """Watch no more."""
        del _watched[str(self.root)]
        with self._lock:
            for file in self._files.values():
                os.close(file.fd)

    def settle(self) -> None:
        """All was written back, as the kernel does when there is time: what is there now is surely on disk."""
        with self._lock, _unheard():
            self._look()
            del self._trees[:-1]
            there = {file for file in self._trees[-1].values() if file is not None}
            for number, file in list(self._files.items()):
                if file in there:
                    file.settle()
                else:  # It has no name any more, and never will.
                    os.close(self._files.pop(number).fd)

    def lose_power(self, into: Path, rng: random.Random) -> None:
        """Make a folder as a power loss at this moment could leave this one."""
        with self._lock, _unheard():
            self._look()
            tree = self._trees[-1] if rng.random() < 0.4 else rng.choice(self._trees)
            into.mkdir()
            for path, file in tree.items():
                if file is None:
                    (into / path).mkdir()
                else:
                    (into / path).write_bytes(file.survivor(rng))

    def note(self) -> None:
        """A step is about to be taken: what there is now may be what a power loss leaves."""
        with self._lock, _unheard():
            self._look()

    def _look(self) -> None:
        tree = dict(self._walk(self.root, ""))
        if not self._trees or tree != self._trees[-1]:
            self._trees.append(tree)
        for file in self._files.values():
            file.look()

    def _walk(self, folder: Path, prefix: str) -> Iterator[tuple[str, _File | None]]:
        """Folders before what is in them. What another thread deletes meanwhile is not there any more."""
        with suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir(follow_symlinks=False):
                    yield f"{prefix}{entry.name}", None
                    yield from self._walk(folder / entry.name, f"{prefix}{entry.name}/")
                else:
                    with suppress(FileNotFoundError):
                        yield f"{prefix}{entry.name}", self._file(entry)

    def _file(self, entry: "os.DirEntry[str]") -> _File:
        number = entry.inode()
        if number not in self._files:
            self._files[number] = _File(os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC))
        return self._files[number]


_watched: dict[str, Disk] = {}
_looking = threading.local()


@contextmanager
def _unheard() -> Iterator[None]:
    """What this thread opens within this block is our own looking."""
    before = getattr(_looking, "now", False)
    _looking.now = True
    try:
        yield
    finally:
        _looking.now = before


def _listen() -> None:
    """Once a process: an audit hook can not be taken back."""
    global _listening  # noqa: PLW0603
    if not _listening:
        _listening = True
        sys.addaudithook(_hear)


_listening = False


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _CHANGES or not _watched or getattr(_looking, "now", False):
        return
    path = arguments[0]
    if isinstance(path, int):
        return
    text = os.fsdecode(path)
    for root, disk in list(_watched.items()):
        # What is relative is so to a folder's descriptor, as shutil.rmtree works.
        if text.startswith(f"{root}/") or not os.path.isabs(text):
            disk.note()
