"""One chunk on its way in: bytes that come from threads, and readers that follow them.

Owns: the watermark. A fill has two: `position`, up to which bytes were written, and `released`, up to which they may be
shown to clients. Bytes of a trusted offer (upstream) are released as they come; those of a peer only when the whole chunk
hashes to what the peer said it does, so that no client ever sees what a lying or rotten peer sent.

A chunk's place in the data file is written to by its fill alone, and what was released there is never written over as long as
somebody reads it: a fill that failed is gone on with where it ended.
"""

import asyncio
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Self

from app.content.byte_range import ByteRange
from app.content.descriptor import Descriptor, Slice
from app.content.entry import Entry
from app.content.location import Location
from app.content.outlet import Lead, Outlet
from app.content.source import Abandoned, Offer, SourceKind, Want
from app.errors import PeerdError, SourceLied, SourceUnavailable

log = logging.getLogger(__name__)

NOTIFY_BYTES = 512 << 10
NOTIFY_SECONDS = 0.02
"""What comes in is shown to its readers after so much of it, or so long after what was shown before, whichever is sooner.

Each time costs a system call and a turn of Python's lock: less at a time is slower where bytes come as fast as they can be passed on
(`python -m bench.dataplane cold`), and where they come slowly nobody is to wait for more of them.
"""

GRACE_SECONDS = 2.0
RATE_MIN_BYTES_PER_S = 64 << 10
"""A peer that sends slower than this, once the grace is over, is not worth waiting for while others may be asked."""


class Fill:
    """One chunk of one entry, being fetched. Created and finished on the event loop, written to from threads."""

    def __init__(
        self,
        entry: Entry,
        index: int,
        want: Want,
        *,
        location: Location | None,
        former: Self | None = None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.entry = entry
        self.index = index
        self.want = want
        self.location = location
        self.span = entry.span(index)
        self.kind: SourceKind = SourceKind.UPSTREAM
        self.error: PeerdError | None = None
        self.done = False
        self.was_read = False
        self.waiting = 0
        self._loop = loop
        self._waiters: list[asyncio.Future[None]] = []
        self._is_told = False
        self._lead: Lead | None = None
        self.lock = threading.Lock()
        self.position = self.released = self.span.start
        self.kept = True
        self.hash_released = hashlib.sha256()
        # One attribute, replaced whole: the loop reads it while a thread moves the chunk to memory.
        self.where: tuple[Descriptor, int]
        if former is not None:
            self.position = self.released = former.released
            self.kept, self.where = former.kept, former.where
            self.hash_released = former.hash_released.copy()
        else:
            try:
                self.where = entry.file(), 0
            except OSError as error:
                self.where, self.kept = (self._memory(error), self.span.start), False
        # The same until something is hashed that is not released.
        self._hash = self.hash_released

    def __repr__(self) -> str:
        state = "done" if self.done else f"failed: {self.error}" if self.error else "filling"
        return f"<Fill {self.entry.meta.key} chunk {self.index} {self.position - self.span.start}/{len(self.span)} {state}>"

    # Readers, on the event loop

    def slice(self, start: int, stop: int) -> Slice:
        """Released bytes of the content from `start` up to `stop`."""
        file, base = self.where
        return Slice(file, start - base, stop - start, self.kind)

    async def wait_beyond(self, position: int) -> None:
        """Return when bytes after `position` are released, or the fill has ended one way or the other."""
        self.waiting += 1  # Before it looks: a thread that releases more looks here afterwards.
        try:
            while self.released <= position and not self.has_ended:
                await self._told()
        finally:
            self.waiting -= 1

    async def follow(self, position: int, stop: int, outlet: Outlet | None = None) -> int:
        """Return when a client who reads from `position` up to `stop` is to be sent something, or the fill has ended; from where on.

        Where `outlet` is open, the thread that brings the bytes sends them there, as they are released, until all of them went or the client takes
        no more at once. It does so for one client; others follow it from the event loop.
        """
        if outlet is None or self._lead is not None or not outlet.is_open:
            await self.wait_beyond(position)
            return position
        lead = Lead(outlet, position, stop)
        self.waiting += 1
        self._lead = lead
        try:
            lead.go_on(self.released, self.slice)
            while not (lead.is_over or self.has_ended or self._is_through(lead)):
                await self._told()
        finally:
            try:
                position = lead.end()
            finally:  # In this order: a thread takes off `waiting` whom it sends to, and must not do so for one who is not counted any more.
                self._lead = None
                self.waiting -= 1
        return position

    def _is_through(self, lead: Lead) -> bool:
        """Whether all has gone out and more is to come than that; at the chunk's end the loop is told that it is done, and once is enough."""
        return lead.position == lead.stop < self.span.stop

    @property
    def has_ended(self) -> bool:
        """One way or the other."""
        return self.done or self.error is not None

    async def _told(self) -> None:
        """Return when there is something new to look at."""
        woken = self._loop.create_future()
        self._waiters.append(woken)
        await woken

    async def ended(self) -> None:
        """Return when the chunk is in, or will not come."""
        await self.wait_beyond(self.span.stop)

    def _notify(self) -> None:
        self._is_told = False  # Before they look: what is released from now on is told of again.
        waiters, self._waiters = self._waiters, []
        for woken in waiters:
            if not woken.done():
                woken.set_result(None)

    # The driver, on the event loop

    def sink(self, offer: Offer) -> "FillSink":
        """Where one offer may put its bytes, from `position` on."""
        self.kind = offer.kind
        return FillSink(self, trusted=offer.trusted, expected=self._proved())

    def _proved(self) -> list[bytes]:
        """What the chunk is known to hash to, since the whole was proved."""
        known = self.entry.checksum(self.index) if self.entry.verified else None
        return [known] if known else []

    def remaining(self) -> ByteRange:
        """What is still to be fetched."""
        return ByteRange(self.position, self.span.stop)

    def complete(self, sink: "FillSink") -> bytes:
        """The chunk's checksum, when it is what it must be.

        Raises:
            SourceUnavailable: bytes are missing.
            SourceLied: the chunk is not what it must be, or its source is not to be believed without a checksum and gave
                none. What was not released is forgotten.
        """
        if self.position != self.span.stop:
            raise SourceUnavailable(
                f"ended {self.span.stop - self.position} bytes before the end of chunk {self.index}"
            )
        checksum = self._hash.digest()
        # The whole may have been proved since the sink was made.
        expected = [*sink.expected, *self._proved()]
        if any(checksum != want for want in expected) or not (sink.trusted or expected):
            self.rewind()
            raise SourceLied(f"chunk {self.index} does not hash to what it must")
        return checksum

    def rewind(self) -> None:
        """Forget what was not released: its source turned out not to be believed, or did not finish."""
        self.position = self.released
        self._hash = self.hash_released

    def finish(self) -> None:
        """Every byte is in and right."""
        self.released = self.span.stop
        self.done = True
        self._notify()

    def fail(self, error: PeerdError) -> None:
        """No source can give the rest."""
        self.error = error
        self._notify()

    # Threads

    def take(self, data: bytes | memoryview, *, release: bool, is_due: bool) -> None:
        """Append to the file; called by one thread at a time. `is_due`: what is released was so long ago."""
        after = self.position + len(data)
        if after > self.span.stop:
            raise SourceLied(f"sent more than the {len(self.span)} bytes of chunk {self.index}")
        try:
            self._write(data)
        except OSError as error:
            if not self.kept:
                raise SourceUnavailable(f"no room for chunk {self.index}: {error}") from error
            self._move_to_memory(error)
            self._write(data)
        shown = release and (is_due or after - self.released >= NOTIFY_BYTES or after == self.span.stop)
        if self._hash is self.hash_released and not shown:
            self._hash = self.hash_released.copy()
        self._hash.update(data)
        self.position = after
        if shown:
            self.release()

    def release(self) -> None:
        """Show what there is to the readers; from a thread."""
        self.hash_released = self._hash
        self.released = self.position
        lead = self._lead  # Before `waiting`, which counts its reader, too.
        others = self.waiting
        if lead is not None:
            lead.go_on(self.released, self.slice)
            others -= not (lead.is_over or self._is_through(lead))
        if others and not self._is_told:  # A busy loop is told once.
            self._is_told = True
            self._loop.call_soon_threadsafe(self._notify)

    def _write(self, data: bytes | memoryview) -> None:
        file, base = self.where
        view, offset = memoryview(data), self.position - base
        while view:
            written = os.pwrite(file.fileno(), view, offset)
            view, offset = view[written:], offset + written

    def _move_to_memory(self, error: OSError) -> None:
        file, base = self.where
        had = bytearray(self.position - self.span.start)
        try:
            got = os.preadv(file.fileno(), [had], self.span.start - base)
            memory = self._memory(error)
            os.pwrite(memory.fileno(), had, 0)
        except OSError as worse:
            raise SourceUnavailable(f"no room for chunk {self.index}: {worse}") from worse
        if got != len(had):
            raise SourceUnavailable(f"chunk {self.index} can neither be kept nor read again: {error}")
        self.where, self.kept = (memory, self.span.start), False

    def _memory(self, error: OSError) -> Descriptor:
        """The disk takes no more (full, read-only): this chunk passes through memory and is not kept."""
        log.warning("chunk %d of %s is not kept on disk: %s", self.index, self.entry.meta.key, error)
        return Descriptor(os.memfd_create("chunk"))


class FillSink:
    """One offer's way into a fill. Closed when the offer is given up, so that a thread left behind writes nothing more."""

    def __init__(
        self,
        fill: Fill,
        *,
        trusted: bool,
        expected: list[bytes],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.expected = expected
        self.trusted = trusted
        self._fill = fill
        self._clock = clock
        self._started = self._shown = clock()
        self._start = fill.position
        self._closed = False

    @property
    def received(self) -> int:
        """How many bytes came in through here."""
        return self._fill.position - self._start

    def expect_checksum(self, sha256: bytes) -> None:
        """What the whole chunk must hash to."""
        self.expected.append(sha256)

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes. Raises Abandoned, SourceLied, SourceUnavailable."""
        now = self._clock()
        with self._fill.lock:
            if self._closed:
                raise Abandoned
            self._fill.take(
                data, release=self.trusted and not self.expected, is_due=now - self._shown >= NOTIFY_SECONDS
            )
            if self._fill.released == self._fill.position:
                self._shown = now
        took = now - self._started
        if not self.trusted and took > GRACE_SECONDS and self._fill.position < self._fill.span.stop:
            rate = self.received / took
            if rate < RATE_MIN_BYTES_PER_S:
                raise SourceUnavailable(f"sends {rate:.0f} bytes a second; others are asked")

    def close(self) -> None:
        """Nothing more is taken. What a trusted offer sent stays, though it did not send all; anything else is forgotten."""
        with self._fill.lock:
            if self._closed or self._fill.done:
                return
            self._closed = True
            if self.trusted and not self.expected:
                self._fill.release()
            else:
                self._fill.rewind()
