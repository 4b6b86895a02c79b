"""The chunk cache: contents on local disk, within a quota.

Owns: which contents there are, how many bytes they hold, and what is advertised of them. Lives on the event loop; hashing
and deleting go to threads. What a chunk is and where it lies are `entry` and `layout`; what goes first is `eviction`.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from app.content import advertised
from app.content.entry import Entry
from app.content.eviction import victims
from app.content.hashing import hash_of
from app.content.inheritance import inherited, locked
from app.content.key import ContentKey
from app.content.layout import Layout, Meta, proof_of
from app.content.single_flight import SingleFlight
from app.content.tasks import Tasks
from app.content.threads import Threads
from app.errors import SourceError

log = logging.getLogger(__name__)

TRUST_SECONDS = 600.0
"""How long a chunk is served after its hash was last seen to be right.

Hashing costs about 1 s a GiB (sha-256 with the processor's help), so a chunk that is read all the time costs nothing, and
one that rots is noticed at its first read after that.
"""

EVICT_AHEAD = 0.01
"""The share of the quota that is freed beyond what is needed, so that not each chunk looks for a victim of its own."""

EMPTY_MAX = 4096
"""How many contents are known of which nothing is here: asked for their size, or of no bytes. The oldest are forgotten."""


class HeldListener(Protocol):
    """Who wants to know what can be served from here."""

    def held(self, keys: Iterable[str]) -> None:
        """These can be served from now on."""

    def gone(self, keys: Iterable[str]) -> None:
        """These can not be served any more."""


class ChunkCache:
    """Contents by key, each with the chunks that are here."""

    def __init__(
        self,
        layout: Layout,
        *,
        quota: int,
        chunk_size: int,
        threads: Threads,
        clock: Callable[[], float] = time.monotonic,
        evicted: Callable[[int], None] = lambda _count: None,
        corrupt: Callable[[], None] = lambda: None,
    ) -> None:
        self.layout = layout
        self.quota = quota
        self.chunk_size = chunk_size
        self.used_bytes = 0
        self.clock = clock
        self.listener: HeldListener | None = None
        self._threads = threads
        self._evicted = evicted
        self._corrupt = corrupt
        self._entries: dict[ContentKey, Entry] = {}
        self._empty: OrderedDict[Entry, None] = OrderedDict()
        self._reserved_bytes = 0
        self._checking: SingleFlight[tuple[Entry, int], bool] = SingleFlight()
        self._tasks = Tasks()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        root: Path,
        *,
        quota: int,
        chunk_size: int,
        threads: Threads,
        clock: Callable[[], float] = time.monotonic,
        evicted: Callable[[int], None] = lambda _count: None,
        corrupt: Callable[[], None] = lambda: None,
    ) -> "AsyncIterator[ChunkCache]":
        """The cache in `root`, with what earlier lives left there.

        Raises:
            CacheLocked: another node has it open.
            OSError: the folder can not be made or written.
        """
        layout = Layout(root)
        root.mkdir(parents=True, exist_ok=True)
        with locked(layout):
            cache = cls(
                layout,
                quota=quota,
                chunk_size=chunk_size,
                threads=threads,
                clock=clock,
                evicted=evicted,
                corrupt=corrupt,
            )
            await threads.disk(cache._load)
            cache.make_room(0)
            async with cache._tasks:
                yield cache

    def _load(self) -> None:
        self.layout.prepare()
        for entry in inherited(self.layout, chunk_size=self.chunk_size, clock=self.clock):
            self._entries[entry.meta.key] = entry
            self.used_bytes += entry.held_bytes
            if not entry.present:
                self._empty[entry] = None

    # Looking

    def get(self, key: ContentKey) -> Entry | None:
        """The content under `key`, if anything of it is known here."""
        return self._entries.get(key)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def chunks(self) -> int:
        """How many chunks there are, over all contents."""
        return sum(entry.present for entry in self._entries.values())

    def advertised(self) -> Iterator[str]:
        """Every key that can be served from here, e.g. after a start."""
        for entry in self._entries.values():
            yield from advertised.of(entry)

    # Changing

    def create(self, meta: Meta) -> Entry:
        """A new content, empty; the one that is here where there is one of that key and size.

        Raises OSError where the disk does not take it.
        """
        if (known := self._entries.get(meta.key)) is not None:
            if known.meta.size == meta.size:
                return known
            log.warning(
                "%s has %d bytes now, it had %d: what was here is dropped", meta.key, meta.size, known.meta.size
            )
            self.forget(known)
        entry = Entry.create(meta, self.layout.content(meta.key))
        entry.last_read = self.clock()
        self._entries[meta.key] = entry
        self._empty[entry] = None
        if self.listener is not None and entry.whole:  # It has no bytes.
            self.listener.held(list(advertised.of(entry)))
        if len(self._empty) > EMPTY_MAX:
            oldest = next(iter(self._empty))
            self._empty.move_to_end(oldest)
            if not oldest.readers:
                self._remove(oldest)
        return entry

    def scratch(self, meta: Meta) -> Entry:
        """A content that nobody else may have and that is forgotten when it is closed."""
        return Entry(meta, None, scratch_in=self.layout.scratch)

    def commit(self, entry: Entry, index: int, checksum: bytes) -> None:
        """Chunk `index` is in the data file and hashes to `checksum`."""
        before = entry.held_bytes
        was_new = not entry.has(index)
        entry.commit(index, checksum, self.clock())
        if self._entries.get(entry.meta.key) is not entry:
            return
        self.used_bytes += entry.held_bytes - before
        self._empty.pop(entry, None)
        if was_new and self.listener is not None:
            keys = [advertised.stretch(entry.meta.key, index * entry.meta.chunk_size)]
            if advertised.is_whole(entry):
                keys.append(advertised.whole(entry.meta.key))
            self.listener.held(keys)

    def store(self, meta: Meta, data: bytes) -> Entry:
        """Keep a small content (a manifest) whose digest the caller has checked. Raises OSError."""
        known = self._entries.get(meta.key)
        if known is not None and known.whole:
            return known
        if known is not None:
            self.forget(known)
        self.make_room(len(data))
        pieces = (data[start : start + meta.chunk_size] for start in range(0, len(data), meta.chunk_size))
        proof = proof_of(b"".join(hashlib.sha256(piece).digest() for piece in pieces))
        entry = self.create(replace(meta, verified=meta.digest is not None, proof=proof))
        try:
            return self._write(entry, data)
        except OSError:
            self.forget(entry)
            raise

    def store_aside(self, meta: Meta, data: bytes) -> Entry:
        """The same in memory, for one who asks while the disk takes nothing."""
        return self._write(Entry(replace(meta, verified=meta.digest is not None), None), data)

    def _write(self, entry: Entry, data: bytes) -> Entry:
        file = entry.file()  # Held: it is closed with the last reference to it.
        for index in range(entry.meta.chunks):
            span = entry.span(index)
            piece = data[span.start : span.stop]
            os.pwrite(file.fileno(), piece, span.start)
            self.commit(entry, index, hashlib.sha256(piece).digest())
        return entry

    def adopt(self, entry: Entry) -> None:
        """Somebody else's whole content stands in for ours: it counts for no quota, and what we had of it is deleted."""
        key = entry.meta.key
        if (known := self._entries.get(key)) is not None:
            self._remove(known)
        self._entries[key] = entry
        if self.listener is not None:
            self.listener.held(list(advertised.of(entry)))

    def reserve(self, count: int) -> None:
        """Make room for `count` bytes that are on their way. They count as used until `release`."""
        self.make_room(count)
        self._reserved_bytes += count

    def release(self, count: int) -> None:
        """Bytes that were on their way are here, or will not come."""
        self._reserved_bytes -= count

    def chunks_ahead(self, most: int) -> int:
        """How many chunks a reader may be ahead of itself, `most` if the cache is large: what is read next is not to push out the rest."""
        return max(1, min(most, self.quota // (4 * self.chunk_size)))

    def make_room(self, count: int) -> None:
        """Evict until `count` more bytes fit the quota, or nothing is left that may go."""
        count += self._reserved_bytes
        if self.used_bytes + count <= self.quota:
            return
        goal = self.quota - count - int(self.quota * EVICT_AHEAD)
        for entry, index in victims([entry for entry in self._entries.values() if entry.owned]):
            if self.used_bytes <= goal:
                break
            self._evicted(len(entry.span(index)))
            self._drop(entry, index)
            if not entry.present and not entry.readers:
                self._remove(entry)

    def _drop(self, entry: Entry, index: int) -> None:
        known = self._entries.get(entry.meta.key) is entry
        before, offered_whole = entry.held_bytes, advertised.is_whole(entry)
        entry.drop(index)
        if not known:
            return
        self.used_bytes += entry.held_bytes - before
        if not entry.present:
            self._empty[entry] = None
        if self.listener is not None:
            gone = [advertised.whole(entry.meta.key)] if offered_whole else []
            start = entry.span(index).start
            if not any(map(entry.has, advertised.stretch_chunks(start, entry.meta.size, entry.meta.chunk_size))):
                gone.append(advertised.stretch(entry.meta.key, start))
            if gone:
                self.listener.gone(gone)

    def promote(self, entry: Entry) -> Entry:
        """The whole hashes to its digest: from now on it is that digest's content, for everybody.

        Returns the entry that holds the digest's content, which is another one when somebody was faster.
        """
        digest = entry.meta.digest
        if digest is None:
            raise ValueError(f"{entry} has no digest to be promoted to")
        if entry.verified:
            return entry
        key = ContentKey.of_digest(digest)
        meta = replace(entry.meta, key=key, verified=True, proof=entry.proof())
        if self._entries.get(entry.meta.key) is not entry:
            entry.meta = meta  # Forgotten meanwhile: right for those who still read it, and nothing to others.
            return entry
        known = self._entries.get(key)
        if known is not None and known is not entry and known.whole:
            self.forget(entry)
            return known
        if known is not None and known is not entry:
            self.forget(known)
        self._withdraw(entry)
        del self._entries[entry.meta.key]
        self._entries[key] = entry
        self._move(entry, meta)
        entry.meta = meta
        if self.listener is not None:
            self.listener.held(list(advertised.of(entry)))
        return entry

    def _move(self, entry: Entry, meta: Meta) -> None:
        """Give a content the folder that its new key has.

        Its meta.json says so before the folder moves; the next life completes what a crash in between left, and what a disk
        that lets nothing be moved does.
        """
        folder = self.layout.content(meta.key)
        try:
            if entry.folder is not None:
                entry.replace_meta(meta)
                folder.parent.mkdir(parents=True, exist_ok=True)
                entry.folder.rename(folder)
                entry.folder = folder
        except OSError as error:
            log.warning(
                "%s was verified but could not be moved: %s; it is hashed again after a restart", meta.key, error
            )

    def forget(self, entry: Entry) -> int:
        """Delete a content; those who read it go on reading. Returns the bytes that were freed."""
        freed = entry.held_bytes
        self._remove(entry)
        return freed

    def _withdraw(self, entry: Entry) -> None:
        if self.listener is not None:
            self.listener.gone(list(advertised.of(entry)))

    def _remove(self, entry: Entry) -> None:
        if self._entries.get(entry.meta.key) is not entry:
            return
        self._withdraw(entry)
        del self._entries[entry.meta.key]
        self._empty.pop(entry, None)
        if entry.owned:
            self.used_bytes -= entry.held_bytes
        folder = entry.detach()
        if folder is not None:
            with contextlib.suppress(
                OSError
            ):  # A disk that lets nothing be renamed keeps the folder; the next start reads it.
                trash = self.layout.discard(folder)
                self._tasks.create_task(self._threads.disk(shutil.rmtree, trash, True), name=f"delete {trash.name}")

    # Reading

    def is_fresh(self, entry: Entry, index: int, now: float | None = None) -> bool:
        """Whether the hash of chunk `index` was seen to be right a short while ago."""
        checked_at = entry.checked_at[index]
        return bool(checked_at) and (self.clock() if now is None else now) - checked_at < TRUST_SECONDS

    async def check(self, entry: Entry, index: int) -> bool:
        """Whether chunk `index` is here and right; hashes it unless that was done a short while ago.

        A chunk that is not what it must be is dropped, so that it is fetched again. Raises OSError where no file can be opened
        now, which says nothing of the chunk.
        """
        if not entry.has(index):
            return False
        if self.is_fresh(entry, index):
            return True
        # One look for all: a second one that is slower could drop what was fetched anew after the first.
        return await self._checking.ask((entry, index), lambda: self._look_at(entry, index))

    async def _look_at(self, entry: Entry, index: int) -> bool:
        try:
            await entry.prepare()
        except SourceError as error:
            log.warning("%s is not served any more: %s", entry.meta.key, error)
            self.forget(entry)
            return False
        now, span, file = self.clock(), entry.span(index), entry.file()
        with entry.pinned(index, index + 1):
            try:
                # The thread refers to the file itself: its number could be another file's once nobody does.
                found = await self._threads.disk(lambda: hash_of(file.fileno(), span))
            except OSError as error:
                log.warning("chunk %d of %s can not be read: %s; it is fetched again", index, entry.meta.key, error)
                found = None
        if not entry.has(index):
            return False
        if found == entry.checksum(index):
            entry.checked_at[index] = now
            return True
        log.warning("chunk %d of %s rotted on disk; it is fetched again", index, entry.meta.key)
        self._corrupt()
        self._drop(entry, index)
        return False
