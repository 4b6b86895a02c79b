"""One pass through a content whose source can only be read from the beginning on.

Upstreams that ignore `Range` send the whole again for each chunk; so one pass fills every chunk, and whoever waits for one
waits for the pass to reach it. The pass runs a bounded way ahead of the furthest reader, so that a file larger than the
cache does not push out what is still to be read, and ends when nobody wants more for a while.

The pass writes nothing itself: it takes each chunk's fill over, or leaves the chunk out where another source is filling it.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVarTuple, Unpack

from app.content.byte_range import ByteRange
from app.content.entry import Entry
from app.content.fill import Fill, FillSink
from app.content.source import Abandoned, Offer, SourceKind
from app.errors import PeerdError, SourceLied, SourceUnavailable, Unobtainable, anew, without_frames

log = logging.getLogger(__name__)

Arguments = TypeVarTuple("Arguments")

AHEAD_CHUNKS = 32
"""How far the pass may run ahead of the furthest chunk that somebody waits for."""

PATIENCE_SECONDS = 15.0
"""How long the pass waits for somebody to want more before it gives its connection back."""

LOOP_SECONDS = 15.0
"""An event loop that does not answer for so long has ended."""


class SequentialRun:
    """Fills an entry from its first chunk on. A sink, written to by one thread.

    `claim` gives the fill of a chunk over to the pass, or None where it is to be left out; `land` takes a chunk that is in, and
    raises SourceLied where it is not what it must be; `received` is told where bytes came and how many. All are called on the event
    loop.
    """

    def __init__(
        self,
        entry: Entry,
        offer: Offer,
        *,
        ahead: int = AHEAD_CHUNKS,
        claim: Callable[["SequentialRun", int], Fill | None],
        land: Callable[[Fill, FillSink], None],
        received: Callable[[SourceKind, int, int], None],
    ) -> None:
        self.entry = entry
        self.error: PeerdError | None = None
        self.ended = False
        self.next_chunk = 0
        self._offer = offer
        self._ahead = ahead
        self._claim = claim
        self._land = land
        self._received = received
        self._loop = asyncio.get_running_loop()
        self._changed: asyncio.Future[None] = self._loop.create_future()
        self._awaited: set[Fill] = set()
        self._position = 0
        self._current: tuple[Fill, FillSink] | None = None
        self._wanted = 0
        self._waits_before: int | None = None
        self._more_wanted = threading.Condition()

    def __repr__(self) -> str:
        state = "ended" if self.ended else "idle" if self.idle else "running"
        return f"<SequentialRun {self.entry.meta.key} before chunk {self.next_chunk} {state}>"

    # On the event loop

    @property
    def idle(self) -> bool:
        """Whether it waits, and for somebody to want more. One that is wanted is not, though its thread has not woken yet."""
        before = self._waits_before
        return before is not None and before >= self._wanted + self._ahead

    def want(self, index: int) -> bool:
        """Somebody wants chunk `index`. Returns whether the pass will come to it."""
        with self._more_wanted:
            if self.ended or index < self.next_chunk:
                return False
            self._wanted = max(self._wanted, index)
            self._more_wanted.notify()
            return True

    async def reach(self, fill: Fill) -> None:
        """Return when the chunk of `fill` is in. Raises PeerdError when the pass ends or goes by without it."""
        self._awaited.add(fill)
        try:
            while not fill.done:
                if self.error is not None:
                    raise anew(self.error)
                if self.ended or (fill.index < self.next_chunk and not self._is_current(fill)):
                    raise SourceUnavailable(f"the pass through {self.entry.meta.key} went by chunk {fill.index}")
                await asyncio.shield(self._changed)
        finally:
            self._awaited.discard(fill)

    def awaits(self, fill: Fill) -> bool:
        """Whether the fetch of this chunk waits for the pass."""
        return fill in self._awaited

    def stop(self) -> None:
        """Nobody wants more of it."""
        with self._more_wanted:
            self.ended = True
            self._more_wanted.notify()

    async def drive(self) -> None:
        """Read it all."""
        try:
            await self._offer.fetch(ByteRange(0, self.entry.meta.size), self)
        except PeerdError as error:
            self.error = without_frames(error)
        except Abandoned:
            self.error = SourceUnavailable("nobody wanted more")
        except BaseException:
            self.error = Unobtainable("the pass was given up")
            raise
        finally:
            self.stop()
            if self._current is not None:
                self._current[1].close()
            self._notify()

    def _is_current(self, fill: Fill) -> bool:
        return self._current is not None and self._current[0] is fill

    def _notify(self) -> None:
        if not self._changed.done():
            self._changed.set_result(None)
        if not self.ended:
            self._changed = self._loop.create_future()

    def _begin(self, index: int) -> None:
        """Whose the bytes of chunk `index` are."""
        fill = None if self.ended else self._claim(self, index)
        self._current = (fill, fill.sink(self._offer)) if fill is not None else None
        self.next_chunk = index + 1
        self._notify()

    def _end(self) -> None:
        """The chunk's last byte is in."""
        current, self._current = self._current, None
        try:
            if current is not None:
                self._land(*current)
        finally:
            self._notify()

    # Called by the offer's thread

    def expect_checksum(self, sha256: bytes) -> None:
        """A pass is not a chunk; what the whole must be is checked by its digest."""

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes, over chunk borders."""
        view = memoryview(data)
        if self._position + len(view) > self.entry.meta.size:
            raise SourceLied(f"sent more than the {self.entry.meta.size} bytes asked for")
        self._loop.call_soon_threadsafe(self._received, SourceKind.UPSTREAM, self._position, len(view))
        while view:
            span = self.entry.span(self._position // self.entry.meta.chunk_size)
            index = span.start // self.entry.meta.chunk_size
            if self._position == span.start:
                self._wait_until_wanted(index)
                self._on_loop(self._begin, index)
            piece, view = view[: span.stop - self._position], view[span.stop - self._position :]
            self._put(piece)
            self._position += len(piece)
            if self._position == span.stop:
                self._on_loop(self._end)

    def _put(self, piece: memoryview) -> None:
        """Of what its fill has from another source already, nothing is taken again."""
        current = self._current
        if current is not None:
            fill, sink = current
            missing = piece[max(0, fill.position - self._position) :]
            if missing:
                sink.write(missing)

    def _wait_until_wanted(self, index: int) -> None:
        with self._more_wanted:
            self._waits_before = index
            in_time = self._more_wanted.wait_for(
                lambda: self.ended or index < self._wanted + self._ahead, timeout=PATIENCE_SECONDS
            )
            self._waits_before = None
            self.ended |= not in_time
        if self.ended:
            raise Abandoned

    def _on_loop(self, step: Callable[[Unpack[Arguments]], None], *args: *Arguments) -> None:
        """Do something on the event loop, and go on when it is done."""
        done: Future[None] = Future()

        def run() -> None:
            try:
                step(*args)
            except PeerdError as error:
                done.set_exception(error)
            except BaseException as error:
                done.set_exception(error)
                raise
            else:
                done.set_result(None)

        self._loop.call_soon_threadsafe(run)
        try:
            done.result(LOOP_SECONDS)
        except TimeoutError:
            raise Abandoned from None
