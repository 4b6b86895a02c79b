"""Content that is passed on, not kept: upstream names no version of it, so nobody else may be given its bytes.

Everything that one client gets comes from one answer of upstream, so two versions are never mixed. It goes through a nameless
file, because a client may be slower than upstream and because an upstream that names no length has to be read to its end
before a range of it can be told.
"""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

from app.content.byte_range import ByteRange
from app.content.descriptor import Descriptor, Slice, nameless
from app.content.outlet import Outlet
from app.content.source import Abandoned, SourceKind
from app.errors import PeerdError, SourceLied, SourceUnavailable, Unobtainable, anew, without_frames

log = logging.getLogger(__name__)

WINDOW_BYTES = 32 << 20
"""How far upstream may run ahead of the client, where the client reads from the front."""

IN_SOCKETS_BYTES = 48 << 20
"""What was sent but may not have been read yet, and so is still this file's pages: where a file system has large folios, even
a hole of whole pages zeroes them in place. More than Linux lets the two ends of a connection hold (net.ipv4.tcp_wmem, 4 MiB,
and tcp_rmem, 6 MiB, or 32 MiB of late)."""


class Passing:
    """One answer of upstream, on its way to one client.

    `span` is what upstream was asked for; None for all of a content whose length it does not say. `in_order`: the client
    reads once, from the front; else everything is kept aside until it is closed, as far as there is `room` (in bytes).
    """

    def __init__(
        self, span: ByteRange | None, *, folder: Path, room: int, kept_from: int = 0, in_order: bool = True
    ) -> None:
        self.size: int | None = None
        self._span = span
        self._start = span.start if span else 0
        self._position = self._start
        self._kept_from = kept_from
        self._read_up_to = kept_from
        self._given_back = kept_from - self._start
        self._room = room
        self._error: PeerdError | None = None
        self._ended = False
        self._abandoned = False
        self._in_order = in_order
        self._loop = asyncio.get_running_loop()
        self._changed: asyncio.Future[None] = self._loop.create_future()
        self._may_go_on = threading.Condition()
        try:
            self._file = nameless(folder)
        except OSError as error:
            log.warning("what is passed on goes through memory: %s", error)
            self._file = Descriptor(os.memfd_create("passing"))
            self._room = min(room, WINDOW_BYTES)

    async def drive(self, fetch: Callable[["Passing"], Awaitable[None]]) -> None:
        """Let `fetch` write all of it in here."""
        try:
            await fetch(self)
            if self._span is None:
                self.size = self._position
            elif self._position != self._span.stop:
                self._error = SourceUnavailable(f"ended {self._span.stop - self._position} bytes early")
        except PeerdError as error:
            self._error = without_frames(error)
        except Abandoned:
            self._error = Unobtainable("the client left")
        except BaseException:
            self._error = Unobtainable("it was given up")
            raise
        finally:
            self._ended = True
            self._notify()

    def close(self) -> None:
        """The client has left: nothing more is taken."""
        with self._may_go_on:
            self._abandoned = True
            self._may_go_on.notify()

    def progress(self) -> int:
        """Bytes that came in."""
        return self._position - self._start

    async def measured(self) -> int:
        """The size of it all, once upstream has sent it all. Raises PeerdError."""
        self._in_order = False
        with self._may_go_on:
            self._may_go_on.notify()
        while not self._ended:
            await asyncio.shield(self._changed)
        if self._error is not None or self.size is None:
            raise anew(self._error or Unobtainable("upstream never said how long it is"))
        return self.size

    async def slices(self, wanted: ByteRange | None, _outlet: Outlet | None = None) -> AsyncGenerator[Slice, None]:
        """The bytes of `wanted`, or all there will be; through no outlet, since upstream has to wait for a slow client here."""
        position = wanted.start if wanted else self._start
        while wanted is None or position < wanted.stop:
            available = self._position
            if available > position:
                stop = available if wanted is None else min(available, wanted.stop)
                yield Slice(self._file, position - self._start, stop - position, SourceKind.UPSTREAM)
                position = stop
                self._was_read(position)
            elif self._error is not None:
                raise anew(self._error)
            elif self._ended:
                return
            else:
                await asyncio.shield(self._changed)

    def _was_read(self, position: int) -> None:
        if self._in_order:
            done_with = position - self._start - IN_SOCKETS_BYTES
            if done_with - self._given_back >= IN_SOCKETS_BYTES:
                with contextlib.suppress(OSError):  # It goes with the file, at the latest.
                    self._file.punch(self._given_back, done_with - self._given_back)
                self._given_back = done_with
        with self._may_go_on:
            self._read_up_to = max(self._read_up_to, position)
            self._may_go_on.notify()

    def _notify(self) -> None:
        if not self._changed.done():
            self._changed.set_result(None)
        if not self._ended:
            self._changed = self._loop.create_future()

    # Called by the offer's thread

    def expect_checksum(self, sha256: bytes) -> None:
        """Upstream says nothing of checksums."""

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes; waits while the client is far behind."""
        stop = self._position + len(data)
        if self._span is not None and stop > self._span.stop:
            raise SourceLied(f"sent more than the {len(self._span)} bytes asked for")
        if not self._in_order and stop - self._start > self._room:
            raise SourceUnavailable(f"is longer than the {self._room} bytes that may be kept aside to measure it")
        with self._may_go_on:
            self._may_go_on.wait_for(
                lambda: (
                    self._abandoned
                    or not self._in_order
                    or stop - self._read_up_to <= WINDOW_BYTES
                    or stop <= self._kept_from
                )
            )
            if self._abandoned:
                raise Abandoned
        if stop > self._kept_from:
            try:
                os.pwrite(self._file.fileno(), data, self._position - self._start)
            except OSError as error:
                raise SourceUnavailable(f"no room to pass it on: {error}") from error
        self._position = stop
        self._loop.call_soon_threadsafe(self._notify)
