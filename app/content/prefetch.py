"""Filling the rest of a file that is being read, behind whatever a client waits for.

Once per content and node, a few chunks at a time over all contents. It stops when the content is whole or was evicted, when a
chunk can not be had, or when nobody has read from it for a while.
"""

import asyncio
import logging
from collections.abc import Iterator

from app.content.cache import ChunkCache
from app.content.entry import Entry
from app.content.flight import Flights
from app.content.source import Content
from app.content.tasks import Tasks

log = logging.getLogger(__name__)

CHUNKS_AT_ONCE = 4
"""Over all contents. A quarter of the fetch threads, so that clients who wait always find one."""

IDLE_SECONDS = 60.0
"""A file that nobody has read from for so long is not filled further."""

QUOTA_SHARE_MAX = 0.5
"""A file that would take more than this share of the cache pushes out what others use; it is fetched as it is read."""


def order(chunks: int, first: int) -> Iterator[int]:
    """From the reader's place to the end, then what lies before it."""
    yield from range(first, chunks)
    yield from range(first)


class Prefetcher:
    """Background fetches, bounded."""

    def __init__(self, cache: ChunkCache, flights: Flights, *, tasks: Tasks, enabled: bool) -> None:
        self._cache = cache
        self._flights = flights
        self._tasks = tasks
        self._enabled = enabled
        self._slots = asyncio.Semaphore(CHUNKS_AT_ONCE)
        self._under_way: set[Entry] = set()

    def read(self, content: Content, entry: Entry, first: int) -> None:
        """Somebody reads `entry` from chunk `first` on. Returns at once."""
        fits = entry.meta.size <= self._cache.quota * QUOTA_SHARE_MAX
        if self._enabled and fits and not entry.whole and entry.folder is not None and entry not in self._under_way:
            self._under_way.add(entry)
            self._tasks.create_task(self._fill(content, entry, first), name=f"prefetch {content.key}")

    async def _fill(self, content: Content, entry: Entry, first: int) -> None:
        try:
            async with asyncio.TaskGroup() as workers:
                remaining = order(entry.meta.chunks, first)
                for _ in range(CHUNKS_AT_ONCE):
                    workers.create_task(self._work(content, entry, remaining))
        finally:
            self._under_way.discard(entry)

    async def _work(self, content: Content, entry: Entry, remaining: Iterator[int]) -> None:
        for index in remaining:
            async with self._slots:
                idle = not entry.readers and self._cache.clock() - entry.last_read > IDLE_SECONDS
                if idle or self._cache.get(entry.meta.key) is not entry:
                    return
                if entry.has(index):
                    continue
                fill = self._flights.join(content, entry, index)
                await fill.wait_beyond(fill.span.stop - 1)
                if fill.error is not None or not fill.kept:
                    log.info("stopped filling %s at chunk %d: %s", content.key, index, fill.error or "it is not kept")
                    return
