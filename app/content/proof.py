"""Proving that a content is what its digest says, as its chunks come in.

Owns: one running hash a content. It follows the chunks from the first on, as far as they are here without a gap; so a content
that was read in order is proved a moment after its last byte came, and one that came in any order by one look at the disk.
What is proved becomes the digest's content for everybody; what is not is deleted, and members are not asked for it again
for a while.

A chunk may be evicted after it was hashed, and come back different. The entry counts that, and the hash begins anew: what is
promoted is what was hashed.
"""

import asyncio
import logging
import os
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.content.cache import ChunkCache
from app.content.descriptor import Slice
from app.content.digest import Digest
from app.content.entry import Entry
from app.content.fill import Fill
from app.content.flight import Flights
from app.content.source import Content, SourceKind
from app.content.tasks import Tasks
from app.content.threads import Threads
from app.errors import DigestMismatch, PeerdError, anew

if TYPE_CHECKING:
    from hashlib import _Hash

log = logging.getLogger(__name__)

AT_ONCE = 8
"""How many chunks are hashed in one go, where so many are here: each way to a thread and back has its price."""


class _Running:
    """How far one content has been hashed."""

    def __init__(self, digest: Digest, entry: Entry) -> None:
        self.lock = asyncio.Lock()
        self.following = False
        self.disproof: DigestMismatch | None = None
        self._digest = digest
        self.restart(entry)

    def restart(self, entry: Entry) -> None:
        """Begin with the first chunk."""
        self.hash = self._digest.hasher()
        self.next_chunk = 0
        self.disagreements = entry.disagreements

    def is_through(self, entry: Entry) -> bool:
        """Whether every chunk was hashed, and none came back different after it was."""
        return self.next_chunk == entry.meta.chunks and self.disagreements == entry.disagreements


class Proofs:
    """Whole-content hashes under way."""

    def __init__(self, cache: ChunkCache, flights: Flights, *, threads: Threads, tasks: Tasks) -> None:
        self._cache = cache
        self._flights = flights
        self._threads = threads
        self._tasks = tasks
        self._running: weakref.WeakKeyDictionary[Entry, _Running] = weakref.WeakKeyDictionary()
        flights.committed = self.follow

    def _of(self, entry: Entry, digest: Digest) -> _Running:
        running = self._running.get(entry)
        if running is None:
            running = self._running[entry] = _Running(digest, entry)
        return running

    def follow(self, content: Content, fill: Fill) -> None:
        """A chunk came in: hash on as far as there is no gap. Returns at once; called on the event loop."""
        entry = fill.entry
        if content.digest is None or entry.verified:
            return
        running = self._of(entry, content.digest)
        if not running.following and self._is_at_hand(entry, running):
            running.following = True
            self._tasks.create_task(self._follow(content, entry, running), name=f"prove {content.key}")

    def _is_at_hand(self, entry: Entry, running: _Running) -> bool:
        index = running.next_chunk
        return index < entry.meta.chunks and (entry.has(index) or self._flights.aside(entry, index) is not None)

    async def _follow(self, content: Content, entry: Entry, running: _Running) -> None:
        try:
            async with running.lock:
                if running.disproof is not None:  # By a reader, who came first.
                    return
                while not entry.verified and self._is_at_hand(entry, running):
                    if not await self._hash_on(content, entry, running, fetch=False):
                        return
                if not entry.verified and running.is_through(entry):
                    self._conclude(content, entry, running)
        except (PeerdError, OSError) as error:
            log.warning("%s: %s", content.key, error)
        finally:
            running.following = False
            self._cache.make_room(0)  # What was being hashed could not go before.

    async def prove(self, content: Content, entry: Entry) -> None:
        """Return when the whole is known to be what the digest says; what is missing is fetched.

        Raises:
            DigestMismatch: it is not; the content has been forgotten.
            PeerdError: a chunk can not be had.
        """
        if content.digest is None or entry.verified:
            return
        running = self._of(entry, content.digest)
        async with running.lock:
            if running.disproof is not None:
                raise anew(running.disproof)
            while not entry.verified and not running.is_through(entry):
                await self._hash_on(content, entry, running, fetch=True)
            if not entry.verified:
                self._conclude(content, entry, running)

    async def _hash_on(self, content: Content, entry: Entry, running: _Running, *, fetch: bool) -> bool:
        """Hash the next chunks, as many as are here; False where the next one is not, and is not to be fetched."""
        if running.disagreements != entry.disagreements:
            # What was hashed is not what is here now.
            running.restart(entry)
        first = running.next_chunk
        stop = min(first + AT_ONCE, entry.meta.chunks)
        parts: list[Slice] = []
        with entry.pinned(first, stop):
            for index in range(first, stop):
                part = await self._part(content, entry, index, fetch=fetch and index == first)
                if part is None:
                    break
                parts.append(part)
            if not parts:
                return False
            hashed = await self._threads.disk(_update, running.hash.copy(), parts)
        # Only now: who waits for a proof may leave in the middle.
        running.hash, running.next_chunk = hashed, first + len(parts)
        return True

    async def _part(self, content: Content, entry: Entry, index: int, *, fetch: bool) -> Slice | None:
        """Where a chunk lies; None where it is not here and is not to be fetched."""
        if not await self._cache.check(entry, index):
            if not fetch and self._flights.aside(entry, index) is None:
                return None
            fill = await self._flights.landed(content, entry, index)
            if not entry.has(index):
                return fill.slice(fill.span.start, fill.span.stop)
        span = entry.span(index)
        return Slice(entry.file(), span.start, len(span), SourceKind.CACHE)

    def _conclude(self, content: Content, entry: Entry, running: _Running) -> None:
        found = running.hash.hexdigest()
        if content.digest is not None and found == content.digest.hex:
            self._running.pop(entry, None)
            self._cache.promote(entry)
            return
        self._flights.suspect(content.key)
        self._cache.forget(entry)
        running.disproof = DigestMismatch(
            f"{content.key} hashes to {found}; all of it was dropped and is fetched anew when asked for"
        )
        raise anew(running.disproof)


def _update(running: "_Hash", parts: Sequence[Slice]) -> "_Hash":
    """`running` and the bytes of `parts`. For a thread."""
    for part in parts:
        position, stop = part.offset, part.offset + part.count
        while position < stop:
            piece = os.pread(part.file.fileno(), min(1 << 20, stop - position), position)
            if not piece:
                raise OSError(f"the cache's file ends at {position}, before {stop}")
            running.update(piece)
            position += len(piece)
    return running
