"""One fetch for all who wait for a chunk.

Owns: which chunks are being fetched now, and going from offer to offer at the same byte until the chunk is in. A fetch belongs
to the flights' task group, never to its first reader: a client that leaves ends its own wait only.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence

from app.content.cache import ChunkCache
from app.content.entry import Entry
from app.content.fill import Fill
from app.content.key import ContentKey
from app.content.sequential import SequentialRun
from app.content.source import Asker, Content, Offer, SourceKind, Want
from app.content.tasks import Tasks
from app.errors import (
    ContentChanged,
    ContentError,
    NotNow,
    PeerdError,
    RangesUnsupported,
    SourceError,
    SourceLied,
    Unobtainable,
    UpstreamError,
)

log = logging.getLogger(__name__)

SUSPECT_SECONDS = 60.0
"""How long members are not asked for a content whose whole turned out not to be what its digest says."""


class Flights:
    """Chunks on their way in, at most one fetch for each."""

    def __init__(
        self,
        cache: ChunkCache,
        asker: Asker,
        *,
        tasks: Tasks,
        received: Callable[[SourceKind, int], None] = lambda _kind, _count: None,
    ) -> None:
        self._cache = cache
        self._asker = asker
        self._tasks = tasks
        self._received = received
        self._fills: dict[tuple[Entry, int], Fill] = {}
        self._pending: dict[Entry, int] = {}
        self._runs: dict[Entry, SequentialRun] = {}
        self._suspects: dict[ContentKey, float] = {}
        self.committed: Callable[[Content, Entry], None] = lambda _content, _entry: None

    def __len__(self) -> int:
        return len(self._fills)

    def join(self, content: Content, entry: Entry, index: int, *, awaited: bool = True) -> Fill:
        """The fetch of chunk `index`, begun now if nobody did before; more urgent from now on if a client waits."""
        known = self._fills.get((entry, index))
        if known is not None:
            known.want.awaited |= awaited
            return known
        self._cache.make_room(len(entry.span(index)))
        fill = Fill(entry, index, Want(awaited), loop=asyncio.get_running_loop())
        self._fills[entry, index] = fill
        self._pending[entry] = self._pending.get(entry, 0) | 1 << index
        self._tasks.create_task(self._drive(content, fill), name=f"fetch {content.key} {index}")
        return fill

    async def landed(self, content: Content, entry: Entry, index: int) -> Fill:
        """The chunk, whole. Raises the error of a fetch that a client waited for."""
        while True:
            fill = self.join(content, entry, index)
            await fill.wait_beyond(fill.span.stop - 1)
            if fill.error is None:
                return fill
            if not isinstance(fill.error, NotNow):
                raise fill.error

    def pending(self, entry: Entry) -> int:
        """Bit i is set for each chunk i that is being fetched."""
        return self._pending.get(entry, 0)

    def _landed(self, entry: Entry, index: int) -> None:
        del self._fills[entry, index]
        if not (pending := self._pending[entry] & ~(1 << index)):
            del self._pending[entry]
        else:
            self._pending[entry] = pending

    def progress(self, entry: Entry) -> int:
        """A number of bytes that grows as long as anything of this content comes in."""
        under_way = sum(fill.position - fill.span.start for (of, _), fill in self._fills.items() if of is entry)
        return entry.held_bytes + under_way

    def suspect(self, key: ContentKey) -> None:
        """What members had of this content was wrong, or mixed with what was wrong: for a while only upstream is asked."""
        self._suspects[key] = self._cache.clock() + SUSPECT_SECONDS

    def is_suspect(self, key: ContentKey) -> bool:
        """Whether members are not to be asked for this content now."""
        until = self._suspects.get(key)
        if until is not None and until <= self._cache.clock():
            del self._suspects[key]
            return False
        return until is not None

    def _offers(self, content: Content, fill: Fill) -> Iterator[Offer]:
        suspect = self.is_suspect(content.key)
        for offer in self._asker.offers(content, fill.index, fill.want):
            if not (suspect and offer.kind is SourceKind.PEER):
                yield offer

    async def _drive(self, content: Content, fill: Fill) -> None:
        entry, index = fill.entry, fill.index
        problems: list[PeerdError] = []
        try:
            for offer in self._offers(content, fill):
                try:
                    await self._attempt(offer, content, fill)
                except (SourceError, UpstreamError, ContentError) as error:
                    log.debug("chunk %d of %s from %s: %s", index, content.key, offer.name, error)
                    problems.append(error)
                    if isinstance(error, ContentChanged):
                        break
                else:
                    return
            fill.fail(_most_telling(problems, content, index))
        except NotNow as error:
            fill.fail(error)
        except BaseException:
            fill.fail(Unobtainable(f"the fetch of chunk {index} of {content.key} was given up"))
            raise
        finally:
            self._landed(entry, index)

    async def _attempt(self, offer: Offer, content: Content, fill: Fill) -> None:
        """Fetch what is missing of a chunk from one offer, and keep it."""
        sink = fill.sink(offer)
        try:
            try:
                if fill.position < fill.span.stop:
                    await offer.fetch(fill.remaining(), sink)
                checksum = fill.complete(sink.expected)
            finally:
                self._received(offer.kind, sink.received)
                sink.close()
        except RangesUnsupported:
            await self._run(offer, content, fill.entry).reach(fill.index)
            fill.kind = offer.kind
            fill.position = fill.span.stop
            fill.finish()
            return
        except SourceLied as error:
            log.warning("%s: chunk %d of %s: %s", offer.name, fill.index, content.key, error)
            raise
        if fill.kept:
            try:
                self._cache.commit(fill.entry, fill.index, checksum)
                if not fill.was_read:
                    fill.entry.came_from(fill.index, offer.kind)
            except OSError as error:
                log.warning("chunk %d of %s is served but not kept: %s", fill.index, content.key, error)
        fill.finish()
        self.committed(content, fill.entry)

    def _run(self, offer: Offer, content: Content, entry: Entry) -> SequentialRun:
        """The one pass from the beginning on through a content whose source ignores ranges."""
        run = self._runs.get(entry)
        if run is None or run.ended:
            run = SequentialRun(self._cache, content, entry, received=self._received, committed=self.committed)
            self._runs[entry] = run
            self._tasks.create_task(self._drive_run(run, offer), name=f"run {content.key}")
        return run

    async def _drive_run(self, run: SequentialRun, offer: Offer) -> None:
        try:
            await run.drive(offer)
        finally:
            if self._runs.get(run.entry) is run:
                del self._runs[run.entry]


def _most_telling(problems: Sequence[PeerdError], content: Content, index: int) -> PeerdError:
    """The one error of several that says most to whoever waits: upstream's own words before ours."""
    for kind in (ContentChanged, UpstreamError, ContentError):
        for problem in problems:
            if isinstance(problem, kind):
                return problem
    last = f"; the last one: {problems[-1]}" if problems else ""
    return Unobtainable(f"chunk {index} of {content.key} can not be had: {len(problems)} sources failed{last}")
