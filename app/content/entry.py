"""One content in the cache: which of its chunks are here, and what they must hash to.

Owns: the state of the chunks in memory, and the records and data on disk that mirror it. Touched on the event loop only;
what threads write into the data file is not here until `commit` says so. Knows nothing of quotas or other contents.

What a chunk hashed to is remembered after it has gone. In a content that was proved, that is what the next source must send. In
one that was not, nobody knows who was right when a chunk comes back different; so it is counted (`disagreements`), and whoever
hashes or reads the whole begins anew when it has changed meanwhile.
"""

import array
import logging
import os
import weakref
from collections.abc import Sequence
from pathlib import Path

from app.content.byte_range import ByteRange, chunk_range
from app.content.descriptor import Descriptor, nameless
from app.content.layout import (
    ABSENT,
    CHECKSUM_SIZE,
    GONE,
    PRESENT,
    RECORD_SIZE,
    Meta,
    proof_of,
    read_records,
    read_whole,
    record,
    write_whole,
)
from app.content.source import SourceKind

log = logging.getLogger(__name__)

_AS_BIT = bytes(ord("1" if state == PRESENT else "0") for state in range(256))


class _Data(Descriptor):
    """The data file of a content, and the file of its records once one was written: what is being filled has many to write."""

    __slots__ = ("records",)

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.records: Descriptor | None = None


class _Pinned:
    """Not a generator: there is one for each chunk that is sent."""

    __slots__ = ("_entry", "_first", "_stop")

    def __init__(self, entry: "Entry", first: int, stop: int) -> None:
        self._entry = entry
        self._first = first
        self._stop = stop

    def __enter__(self) -> None:
        self._entry.pin(self._first, self._stop)

    def __exit__(self, *_: object) -> None:
        self._entry.unpin(self._first, self._stop)


class Entry:
    """The chunks of one content.

    `owned`: its bytes are the cache's, and count for its quota; else somebody else's file is read from here.
    `bits` has bit i set for each chunk i that is here.

    `folder` None makes a scratch, which dies with the last reference to it: a nameless file in `scratch_in`, or in memory.
    """

    owned = True

    def __init__(self, meta: Meta, folder: Path | None, *, scratch_in: Path | None = None) -> None:
        self.meta = meta
        self.folder = folder
        self.readers = 0
        self.disagreements = 0
        self.last_read = 0.0
        self.last_read_wall: float | None = None
        self._scratch_in = scratch_in
        self._file: weakref.ref[Descriptor] | None = None
        self._kept_open: Descriptor | None = None
        self._pins: dict[int, int] = {}
        if folder is not None:
            self.states, self.checksums = read_records(folder / "chunks", meta.chunks)
        else:
            self.states, self.checksums = bytearray(meta.chunks), bytearray(meta.chunks * CHECKSUM_SIZE)
        self.used_at = array.array("d", bytes(8 * meta.chunks))
        self.checked_at = array.array("d", b"\0" * (8 * meta.chunks))
        self._origin: dict[int, SourceKind] = {}
        self.present = self.states.count(PRESENT)
        self.bits = int(self.states[::-1].translate(_AS_BIT) or b"0", 2)
        self.held_bytes = self.present * meta.chunk_size - self._shortfall()

    def __repr__(self) -> str:
        return f"<Entry {self.meta.key} {self.present}/{self.meta.chunks} chunks, {self.readers} readers>"

    @classmethod
    def create(cls, meta: Meta, folder: Path) -> "Entry":
        """A new and empty content on disk. Raises OSError where the disk does not take it."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "chunks").unlink(missing_ok=True)  # Where a disk did not let a former content go.
        write_whole(folder / "meta.json", meta.to_json())
        return cls(meta, folder)

    @classmethod
    def load(cls, folder: Path) -> "Entry":
        """What an earlier life left. Raises ValueError or OSError where that is not to be believed."""
        return cls(Meta.from_json(read_whole(folder / "meta.json")), folder)

    def _shortfall(self) -> int:
        """How many bytes shorter than a full chunk the last one is, if it is here."""
        last = self.meta.chunks - 1
        if last < 0 or self.states[last] != PRESENT:
            return 0
        return (last + 1) * self.meta.chunk_size - self.meta.size

    @property
    def whole(self) -> bool:
        """Whether every chunk is here."""
        return self.present == len(self.states)

    @property
    def is_known(self) -> bool:
        """Whether it is known of every chunk what it hashes to, as it is after the whole was proved."""
        return ABSENT not in self.states

    @property
    def verified(self) -> bool:
        """Whether the whole was hashed and is what the digest says."""
        return self.meta.verified

    def proof(self) -> str:
        """What `meta.json` is to say of the chunks' checksums when the whole was proved."""
        return proof_of(self.checksums)

    def span(self, index: int) -> ByteRange:
        """Where chunk `index` lies."""
        return chunk_range(index, self.meta.size, self.meta.chunk_size)

    def has(self, index: int) -> bool:
        """Whether chunk `index` is here, though perhaps not yet checked in this life."""
        return self.states[index] == PRESENT

    def checksum(self, index: int) -> bytes | None:
        """What chunk `index` must hash to, where that is known."""
        if self.states[index] == ABSENT:
            return None
        return bytes(self.checksums[index * CHECKSUM_SIZE : (index + 1) * CHECKSUM_SIZE])

    def know(self, checksums: Sequence[bytes]) -> None:
        """What each chunk must hash to, from one who has proved it; for chunks that are not here."""
        for index, checksum in enumerate(checksums):
            if self.states[index] == ABSENT:
                self.states[index] = GONE
                self.checksums[index * CHECKSUM_SIZE : (index + 1) * CHECKSUM_SIZE] = checksum

    async def prepare(self) -> None:
        """Called before a chunk's checksum is needed. Raises SourceError where the content turns out not to be right."""

    def file(self) -> Descriptor:
        """The open data file. Raises OSError."""
        held = self._file() if self._file is not None else None
        if held is None:
            if self.folder is not None:
                held = _Data(os.open(f"{self.folder}/data", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))
            elif self._scratch_in is not None:
                held = nameless(self._scratch_in)
            else:
                held = Descriptor(os.memfd_create("content"))
            self._hold(held)
            if self.folder is None:
                self._kept_open = held
        return held

    def _hold(self, file: Descriptor) -> None:
        """Remember an open file for as long as somebody uses it."""
        self._file = weakref.ref(file)

    def detach(self) -> Path | None:
        """Give the folder up, to be deleted. Whoever still has this entry goes on with the file, which stays open for him."""
        folder = self.folder
        if folder is not None:
            try:
                self._kept_open = self.file()
            except OSError as error:
                log.warning("%s is lost to those who read it: %s", self.meta.key, error)
                self._lose_all()
        self.folder = None
        return folder

    def _lose_all(self) -> None:
        for index in range(self.meta.chunks):
            if self.has(index):
                self.states[index] = GONE
        self.present = self.held_bytes = self.bits = 0

    def commit(self, index: int, checksum: bytes, now: float) -> None:
        """Chunk `index` is in the data file and hashes to `checksum`."""
        self._compare(index, checksum)
        if not self.has(index):
            self.present += 1
            self.held_bytes += len(self.span(index))
        self._set(index, PRESENT, checksum)
        self.bits |= 1 << index
        self.used_at[index] = self.checked_at[index] = now

    def saw(self, index: int, checksum: bytes) -> None:
        """Chunk `index` went by without being kept, and hashed to `checksum`."""
        self._compare(index, checksum)
        if not self.has(index):
            self._set(index, GONE, checksum)

    def _compare(self, index: int, checksum: bytes) -> None:
        known = self.checksum(index)
        if known is not None and known != checksum:
            self.disagreements += 1

    def drop(self, index: int) -> None:
        """Chunk `index` is not here any more; the disk gets its room back where it can take it."""
        if not self.has(index):
            return
        span = self.span(index)
        self.present -= 1
        self.held_bytes -= len(span)
        self._set(index, GONE, self.checksum(index) or bytes(CHECKSUM_SIZE))
        self.bits &= ~(1 << index)
        self._origin.pop(index, None)
        try:
            given_back = self.file().punch(span.start, len(span))
        except OSError as error:
            log.warning("the room of chunk %d of %s is not given back: %s", index, self.meta.key, error)
        else:
            if not given_back:
                log.debug("the file system can not give back single chunks; they go with their content")

    def _set(self, index: int, state: int, checksum: bytes) -> None:
        """Change a chunk's state, here and on disk. A disk that does not take it leaves the next life with the old one.

        That life hashes the chunk before it is used, so it finds out; this one knows better.
        """
        self.states[index] = state
        self.checksums[index * CHECKSUM_SIZE : (index + 1) * CHECKSUM_SIZE] = checksum
        if self.folder is None:
            return
        try:
            records = self._records()  # Held: it is closed with the last reference to it.
            os.pwrite(records.fileno(), record(state, checksum), index * RECORD_SIZE)
        except OSError as error:
            log.warning("what is known of chunk %d of %s does not outlive a restart: %s", index, self.meta.key, error)

    def _records(self) -> Descriptor:
        """The file of records, to be held while it is written to; it stays open until all chunks are here. Raises OSError."""
        data = self._file() if self._file is not None else None
        if not isinstance(data, _Data):
            return self._open_records()
        records = data.records or self._open_records()
        data.records = None if self.whole else records
        return records

    def _open_records(self) -> Descriptor:
        return Descriptor(os.open(f"{self.folder}/chunks", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))

    def came_from(self, index: int, kind: SourceKind) -> None:
        """Where chunk `index` came from, for whoever reads it first."""
        self._origin[index] = kind

    def origin(self, index: int) -> SourceKind:
        """Where the reader of chunk `index` gets it from: its source the first time, the cache from then on."""
        return self._origin.get(index, SourceKind.CACHE)

    def replace_meta(self, meta: Meta) -> None:
        """Say something else of the same bytes."""
        if self.folder is not None:
            write_whole(self.folder / "meta.json", meta.to_json())
        self.meta = meta

    def pinned(self, first: int, stop: int) -> "_Pinned":
        """Chunks from `first` up to `stop` are not evicted in the `with` block that is begun with this."""
        return _Pinned(self, first, stop)

    def pin(self, first: int, stop: int) -> None:
        """Chunks from `first` up to `stop` are not evicted until `unpin`."""
        for index in range(first, stop):
            self._pins[index] = self._pins.get(index, 0) + 1

    def unpin(self, first: int, stop: int) -> None:
        """The same chunks may be evicted, where nobody else reads them."""
        for index in range(first, stop):
            if (left := self._pins[index] - 1) > 0:
                self._pins[index] = left
            else:
                del self._pins[index]

    def is_pinned(self, index: int) -> bool:
        """Whether somebody reads chunk `index` now."""
        return index in self._pins

    def touch(self, first: int, stop: int, now: float) -> None:
        """Somebody has read these chunks."""
        for index in range(first, stop):
            self.used_at[index] = now
            self._origin.pop(index, None)
