"""Filling the rest of a content that is being read, behind whatever a client waits for.

Once per content and node, a few chunks at a time over all contents. A client that wants the whole gets the whole fetched as long
as it reads; with `--prefetch` that goes for every file that is read, and goes on for a while after its last reader left. It
stops when the content is whole or was evicted, when a chunk can not be had, or when nobody has read from it for a while.
"""

import asyncio
import logging
import weakref

from app.content.cache import ChunkCache
from app.content.entry import Entry
from app.content.flight import Flights
from app.content.slots import Slots
from app.content.source import Asker, Content
from app.content.tasks import Tasks
from app.errors import NotNow

log = logging.getLogger(__name__)

CHUNKS_AT_ONCE = 7
"""Over all contents; with the one that a client waits for, the eight of docs/swarm.md."""

IDLE_SECONDS = 60.0
"""A file that nobody has read from for so long is not filled further."""

QUOTA_SHARE_MAX = 0.5
"""A file that would take more than this share of the cache pushes out what others use; it is fetched as it is read."""

RETRY_SECONDS = 30.0
"""A content of which a chunk could not be had is not filled again for so long, however often it is read."""

BUSY_SECONDS = 0.01
"""The moment after which another chunk is taken when whoever had the last one was busy."""


class Prefetcher:
    """Background fetches, bounded."""

    def __init__(self, cache: ChunkCache, flights: Flights, asker: Asker, *, tasks: Tasks, enabled: bool) -> None:
        self._cache = cache
        self._flights = flights
        self._asker = asker
        self._tasks = tasks
        self._enabled = enabled
        self._slots = Slots(CHUNKS_AT_ONCE)
        self._begun = 0
        self._under_way: dict[Entry, int] = {}
        self._stopped_at: weakref.WeakKeyDictionary[Entry, float] = weakref.WeakKeyDictionary()

    def read(self, content: Content, entry: Entry, first: int, *, whole: bool) -> bool:
        """Somebody reads `entry` from chunk `first` on, up to its end if `whole`. Returns whether it is being filled."""
        if entry in self._under_way:
            self._under_way[entry] = first
            return True
        fits = entry.meta.size <= self._cache.quota * QUOTA_SHARE_MAX
        if not (self._enabled or whole) or not fits or entry.whole or entry.folder is None:
            return False
        stopped_at = self._stopped_at.get(entry)
        if stopped_at is not None and self._cache.clock() - stopped_at < RETRY_SECONDS:
            return False
        self._under_way[entry] = first
        self._tasks.create_task(self._fill(content, entry), name=f"prefetch {content.key}")
        return True

    async def _fill(self, content: Content, entry: Entry) -> None:
        self._begun += 1
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(CHUNKS_AT_ONCE):
                    workers.create_task(self._work(content, entry, self._begun))
        finally:
            del self._under_way[entry]

    async def _work(self, content: Content, entry: Entry, begun: int) -> None:
        every = (1 << entry.meta.chunks) - 1
        while True:
            async with self._slots.one(begun):
                wanted = every & ~(entry.bits | self._flights.pending(entry))
                if not wanted or not self._is_wanted(entry):
                    return
                index = self._asker.choose(content, wanted, self._under_way[entry])
                fill = self._flights.join(content, entry, index, awaited=False)
                await fill.ended()
            if isinstance(fill.error, NotNow):
                await asyncio.sleep(BUSY_SECONDS)
            elif fill.error is not None or not fill.kept:
                log.info("stopped filling %s at chunk %d: %s", content.key, index, fill.error or "it is not kept")
                self._stopped_at[entry] = self._cache.clock()
                return

    def _is_wanted(self, entry: Entry) -> bool:
        if self._cache.get(entry.meta.key) is not entry:
            return False
        idle = self._cache.clock() - entry.last_read
        return bool(entry.readers) or (self._enabled and idle < IDLE_SECONDS)
