"""Proving that a content is what its digest says, as its chunks come in.

Owns: one running hash a content. It follows the chunks from the first on, as far as they are here without a gap; so a content
that was read in order is proved a moment after its last byte came, and one that came in any order by one look at the disk.
What is proved becomes the digest's content for everybody; what is not is deleted, and members are not asked for it again
for a while.
"""

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from app.content.byte_range import ByteRange
from app.content.cache import ChunkCache
from app.content.digest import Digest
from app.content.entry import Entry
from app.content.flight import Flights
from app.content.source import Content
from app.content.tasks import Tasks
from app.content.threads import Threads
from app.errors import DigestMismatch, PeerdError

if TYPE_CHECKING:
    from hashlib import _Hash

log = logging.getLogger(__name__)


class _Running:
    """How far one content has been hashed."""

    def __init__(self, digest: Digest) -> None:
        self.hash = digest.hasher()
        self.next_chunk = 0
        self.lock = asyncio.Lock()
        self.following = False


class Proofs:
    """Whole-content hashes under way."""

    def __init__(self, cache: ChunkCache, flights: Flights, *, threads: Threads, tasks: Tasks) -> None:
        self._cache = cache
        self._flights = flights
        self._threads = threads
        self._tasks = tasks
        self._running: dict[Entry, _Running] = {}
        flights.committed = self.follow

    def follow(self, content: Content, entry: Entry) -> None:
        """A chunk came in: hash on as far as there is no gap. Returns at once; called on the event loop."""
        if content.digest is None or entry.verified:
            return
        running = self._running.setdefault(entry, _Running(content.digest))
        if not running.following and running.next_chunk < entry.meta.chunks and entry.has(running.next_chunk):
            running.following = True
            self._tasks.create_task(self._follow(content, entry, running), name=f"prove {content.key}")

    async def _follow(self, content: Content, entry: Entry, running: _Running) -> None:
        try:
            async with running.lock:
                while running.next_chunk < entry.meta.chunks and entry.has(running.next_chunk) and not entry.verified:
                    await self._hash_next(entry, running)
                if running.next_chunk == entry.meta.chunks:
                    self._conclude(content, entry, running)
        except (PeerdError, OSError) as error:
            log.warning("%s: %s", content.key, error)
        finally:
            running.following = False

    async def prove(self, content: Content, entry: Entry) -> None:
        """Return when the whole is known to be what the digest says; what is missing is fetched.

        Raises:
            DigestMismatch: it is not; the content has been forgotten.
            PeerdError: a chunk can not be had.
        """
        if content.digest is None or entry.verified:
            return
        running = self._running.setdefault(entry, _Running(content.digest))
        async with running.lock:
            while running.next_chunk < entry.meta.chunks and not entry.verified:
                index = running.next_chunk
                if not entry.has(index):
                    fill = await self._flights.landed(content, entry, index)
                    if not entry.has(index):  # A disk that keeps nothing: the chunk exists in this fill only.
                        part = fill.slice(fill.span.start, fill.span.stop)
                        where = ByteRange(part.offset, part.offset + part.count)
                        await self._threads.disk(_update, running.hash, part.file.fileno(), where)
                        running.next_chunk += 1
                        continue
                await self._hash_next(entry, running)
            if not entry.verified:
                self._conclude(content, entry, running)

    async def _hash_next(self, entry: Entry, running: _Running) -> None:
        index = running.next_chunk
        span = entry.span(index)
        with entry.pinned(index, index + 1):
            file = entry.file()
            await self._threads.disk(_update, running.hash, file.fileno(), span)
        running.next_chunk += 1

    def _conclude(self, content: Content, entry: Entry, running: _Running) -> None:
        self._running.pop(entry, None)
        found = running.hash.hexdigest()
        if content.digest is not None and found == content.digest.hex:
            self._cache.promote(entry)
            return
        self._flights.suspect(content.key)
        self._cache.forget(entry)
        raise DigestMismatch(
            f"{content.key} hashes to {found}; all of it was dropped and is fetched anew when asked for"
        )


def _update(running: "_Hash", fd: int, span: ByteRange) -> None:
    position = span.start
    while position < span.stop:
        piece = os.pread(fd, min(1 << 20, span.stop - position), position)
        if not piece:
            raise OSError(f"the cache's file ends at {position}, before {span.stop}")
        running.update(piece)
        position += len(piece)
