"""One fetch for all who wait for a chunk.

Owns: which chunks are being fetched now, and going from offer to offer at the same byte until the chunk is in. A fetch belongs
to the flights' task group, never to its first reader: a client that leaves ends its own wait only.
"""

import asyncio
import logging
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Protocol

from app.content.byte_range import ByteRange
from app.content.cache import ChunkCache
from app.content.entry import Entry
from app.content.fill import Fill, FillSink
from app.content.key import ContentKey
from app.content.location import same_access
from app.content.sequential import AHEAD_CHUNKS, SequentialRun
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
    anew,
    without_frames,
)

log = logging.getLogger(__name__)

ASIDE_CHUNKS = 16
"""How many chunks that the disk did not take are held in memory, for whoever asks for them in the next moment."""

SUSPECT_SECONDS = 60.0
"""How long members are not asked for a content whose whole turned out not to be what its digest says."""


class Tally(Protocol):
    """Counts what becomes of chunks, by who sent them."""

    def came_in(self, kind: SourceKind, count: int) -> None:
        """So many bytes were received, whether or not their chunk was completed."""

    def answered(self, kind: SourceKind, count: int, seconds: float) -> None:
        """A source answered with `count` bytes in so many seconds."""

    def was_corrupt(self, kind: SourceKind) -> None:
        """A chunk did not hash to what it must."""

    def was_not_kept(self) -> None:
        """The disk did not take a chunk."""


class Flights:
    """Chunks on their way in, at most one fetch for each."""

    def __init__(
        self,
        cache: ChunkCache,
        asker: Asker,
        *,
        tasks: Tasks,
        tally: Tally,
        from_upstream: Callable[[Content, ByteRange], None] = lambda _content, _span: None,
    ) -> None:
        self._cache = cache
        self._asker = asker
        self._tasks = tasks
        self._tally = tally
        self._from_upstream = from_upstream
        self._fills: dict[tuple[Entry, int], Fill] = {}
        self._pending: dict[Entry, int] = {}
        # Failed, and still being read from: what their readers look at is not to be written over.
        self._failed: weakref.WeakValueDictionary[tuple[Entry, int], Fill] = weakref.WeakValueDictionary()
        self._aside: OrderedDict[tuple[Entry, int], Fill] = OrderedDict()
        self._runs: dict[Entry, list[SequentialRun]] = {}
        self._suspects: dict[ContentKey, float] = {}
        self.committed: Callable[[Content, Fill], None] = lambda _content, _fill: None
        self.on_changed: Callable[[Content], Awaitable[None]] = _nobody_wants_to_know

    def __len__(self) -> int:
        return len(self._fills)

    def join(self, content: Content, entry: Entry, index: int, *, awaited: bool = True) -> Fill:
        """The fetch of chunk `index`, begun now if nobody did before; more urgent from now on if a client waits."""
        known = self._fills.get((entry, index))
        if known is not None:
            known.want.awaited |= awaited
            return known
        if (aside := self.aside(entry, index)) is not None:
            return aside
        fill = self._begin(content, entry, index, Want(awaited))
        self._tasks.create_task(self._drive(content, fill), name=f"fetch {content.key} {index}")
        return fill

    def aside(self, entry: Entry, index: int) -> Fill | None:
        """A chunk that came in a moment ago and that the disk did not take."""
        return self._aside.get((entry, index))

    def again(self, content: Content, fill: Fill) -> Fill:
        """Another fetch of a chunk whose fetch failed, where that was not this client's own.

        Nobody waited for it; or it was asked for with another client's credential, of which a refusal says nothing about ours.
        Raises what it failed with otherwise.
        """
        if fill.error is not None and not isinstance(fill.error, NotNow):
            if same_access(fill.location, content.location):
                raise anew(fill.error)
            log.debug("chunk %d of %s is asked for with another credential", fill.index, content.key)
        return self.join(content, fill.entry, fill.index)

    def _begin(self, content: Content, entry: Entry, index: int, want: Want) -> Fill:
        fill = Fill(
            entry,
            index,
            want,
            location=content.location,
            former=self._failed.get((entry, index)),
            loop=asyncio.get_running_loop(),
        )
        self._cache.reserve(len(fill.span))
        self._fills[entry, index] = fill
        self._pending[entry] = self._pending.get(entry, 0) | 1 << index
        return fill

    async def landed(self, content: Content, entry: Entry, index: int) -> Fill:
        """The chunk, whole. Raises the error of a fetch that a client waited for."""
        fill = self.join(content, entry, index)
        while True:
            await fill.ended()
            if fill.done or entry.has(index):
                return fill
            fill = self.again(content, fill)

    async def at_rest(self, entry: Entry) -> None:
        """Return when nothing of this content that is on its way now is any more.

        Who has read it to its end may have been shown a chunk's last byte a moment before the chunk is kept.
        """
        for fill in [fill for (of, _), fill in self._fills.items() if of is entry]:
            await fill.ended()

    def pending(self, entry: Entry) -> int:
        """Bit i is set for each chunk i that is being fetched."""
        return self._pending.get(entry, 0)

    def _ended(self, fill: Fill) -> None:
        """Nobody joins it any more: what it brought is in the cache's hands, which may evict it at once."""
        entry, index = fill.entry, fill.index
        if self._fills.get((entry, index)) is not fill:
            return
        del self._fills[entry, index]
        if fill.error is not None:
            self._failed[entry, index] = fill
        self._cache.release(len(fill.span))
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
        now = self._cache.clock()
        self._suspects = {known: until for known, until in self._suspects.items() if until > now}
        self._suspects[key] = now + SUSPECT_SECONDS

    def is_suspect(self, key: ContentKey) -> bool:
        """Whether members are not to be asked for this content now."""
        return self._suspects.get(key, self._cache.clock()) > self._cache.clock()

    def _offers(self, content: Content, fill: Fill) -> Iterator[Offer]:
        suspect = self.is_suspect(content.key)
        for offer in self._asker.offers(content, fill.index, fill.want):
            if not (suspect and offer.kind is SourceKind.PEER):
                yield offer

    async def _drive(self, content: Content, fill: Fill, run: SequentialRun | None = None) -> None:
        """Let one offer after the other fill a chunk; where a pass has begun it, the pass first."""
        problems: list[PeerdError] = []
        try:
            if run is not None:
                try:
                    await run.reach(fill)
                except PeerdError as error:
                    problems.append(without_frames(error))
                else:
                    return
            for offer in self._offers(content, fill) if run is None or fill.waiting else ():
                try:
                    await self._attempt(offer, content, fill)
                except (SourceError, UpstreamError, ContentError) as error:
                    log.debug("chunk %d of %s from %s: %s", fill.index, content.key, offer.name, error)
                    problems.append(without_frames(error))
                    if isinstance(error, ContentChanged):
                        break
                else:
                    return
            fill.fail(await self._told(problems, content, fill.index))
        except NotNow as error:
            fill.fail(without_frames(error))
        except BaseException:
            fill.fail(Unobtainable(f"the fetch of chunk {fill.index} of {content.key} was given up"))
            raise
        finally:
            self._ended(fill)

    async def _told(self, problems: Sequence[PeerdError], content: Content, index: int) -> PeerdError:
        """What whoever waits for a chunk is told."""
        error = _most_telling(problems, content, index)
        if isinstance(error, ContentChanged):
            await self.on_changed(content)
        return error

    async def _attempt(self, offer: Offer, content: Content, fill: Fill) -> None:
        """Fetch what is missing of a chunk from one offer, and keep it."""
        sink, start, began = fill.sink(offer), fill.position, self._cache.clock()
        try:
            try:
                if fill.position < fill.span.stop:
                    await offer.fetch(fill.remaining(), sink)
                    self._tally.answered(offer.kind, sink.received, self._cache.clock() - began)
            finally:
                self._came_in(content, offer.kind, start, sink.received)
            self._land(content, fill, sink)
        except RangesUnsupported:
            sink.close()
            await self._run(offer, content, fill).reach(fill)
        except SourceLied as error:
            log.warning("%s: chunk %d of %s: %s", offer.name, fill.index, content.key, error)
            raise
        finally:
            sink.close()

    def _came_in(self, content: Content, kind: SourceKind, start: int, count: int) -> None:
        """So many bytes of a content came from `start` on."""
        self._tally.came_in(kind, count)
        if kind is SourceKind.UPSTREAM and count:
            self._from_upstream(content, ByteRange(start, start + count))

    def _land(self, content: Content, fill: Fill, sink: FillSink) -> None:
        """Every byte of a chunk is in. Raises SourceLied, SourceUnavailable where that is not so."""
        try:
            checksum = fill.complete(sink)
        except SourceLied:
            self._tally.was_corrupt(fill.kind)
            raise
        if fill.kept:
            self._cache.commit(fill.entry, fill.index, checksum)
            if not fill.was_read:
                fill.entry.came_from(fill.index, fill.kind)
        else:
            self._tally.was_not_kept()
            fill.entry.saw(fill.index, checksum)
            self._aside[fill.entry, fill.index] = fill
            while len(self._aside) > ASIDE_CHUNKS:
                self._aside.popitem(last=False)
        fill.finish()
        self._ended(fill)
        self.committed(content, fill)

    # Passes through what can only be read from the beginning on

    def _run(self, offer: Offer, content: Content, fill: Fill) -> SequentialRun:
        """A pass that has not gone by this chunk yet."""
        entry = fill.entry
        runs = self._runs.setdefault(entry, [])
        for run in runs:
            if run.want(fill.index):
                return run
        for run in runs:
            if run.idle:
                run.stop()
        run = SequentialRun(
            entry,
            offer,
            ahead=self._cache.chunks_ahead(AHEAD_CHUNKS),
            claim=lambda run, index: self._claim(content, run, index),
            land=lambda fill, sink: self._land_from_run(content, fill, sink),
            received=lambda kind, start, count: self._came_in(content, kind, start, count),
        )
        run.want(fill.index)
        runs.append(run)
        self._tasks.create_task(self._drive_run(run), name=f"run {content.key}")
        return run

    async def _drive_run(self, run: SequentialRun) -> None:
        try:
            await run.drive()
        finally:
            runs = self._runs[run.entry]
            runs.remove(run)
            if not runs:
                del self._runs[run.entry]

    def _claim(self, content: Content, run: SequentialRun, index: int) -> Fill | None:
        """The fill of a chunk that a pass comes to; None where the chunk is here, or another source is filling it."""
        entry = run.entry
        if entry.has(index):
            return None
        fill = self._fills.get((entry, index))
        if fill is None:
            fill = self._begin(content, entry, index, Want(awaited=False))
            self._tasks.create_task(self._drive(content, fill, run), name=f"pass {content.key} {index}")
            return fill
        return fill if run.awaits(fill) else None

    def _land_from_run(self, content: Content, fill: Fill, sink: FillSink) -> None:
        try:
            self._land(content, fill, sink)
        finally:
            sink.close()


async def _nobody_wants_to_know(_content: Content) -> None:
    """Until a library says what is to be done when upstream has another version."""


def _most_telling(problems: Sequence[PeerdError], content: Content, index: int) -> PeerdError:
    """The one error of several that says most to whoever waits: upstream's own words before ours."""
    for kind in (ContentChanged, UpstreamError, ContentError):
        for problem in problems:
            if isinstance(problem, kind):
                return problem
    last = f"; the last one: {problems[-1]}" if problems else ""
    return Unobtainable(f"chunk {index} of {content.key} can not be had: {len(problems)} sources failed{last}")
