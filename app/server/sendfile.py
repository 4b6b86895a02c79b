"""Bytes from an open file to a client, without copying them where they need not be encrypted.

uvicorn's httptools protocol, with the ASGI message `http.response.zerocopysend` (ASGI specification, Extensions, Zero Copy
Send) turned into sendfile(2), and over TLS into pieces of memory.

Owns: the raw socket beside uvicorn's transport. Both write to one connection, so the order is kept by hand: the head is held
back until the first piece of body is known and goes out through the socket that the body takes, and the transport's own
buffer is empty before the raw socket writes.

uvicorn is pinned (pyproject.toml), because this touches what it does not promise: `HttpToolsProtocol._start_asgi_task`, and
the cycle's `transport`, `response_started`, `waiting_for_100_continue`, `keep_alive`, `default_headers`, `chunked_encoding`,
`expected_content_length` and `disconnected`. tests/server/test_sendfile.py holds it to that.
"""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.content.descriptor import Slice
from app.content.source import SourceKind
from app.server.pieces import read_piece
from app.server.strangers import names_shown

log = logging.getLogger(__name__)

ZEROCOPY = "http.response.zerocopysend"

HEAD = "peerd.response.head"
"""Begins a response as `http.response.start` does, with `lines` that need not be looked at: they were written here, or looked at before.

`status` is HTTP's, `lines` are bytes, each with its CR LF, `Content-Length` among them, which is `count`.
"""

OUTLET = "peerd.outlet"
"""The extension that is where a body may also be sent from a thread: the request's `Sender`, an `app.content.outlet.Outlet`."""

SHOWN = "peerd.shown"
"""Under which a request's scope has the DNS names of the certificate that the other end has shown; over TLS only."""

PIECE_BYTES, ENCRYPTED_BYTES = 4 << 20, 1 << 20
"""After so much the loop gets a turn, however fast the client reads; and after so much over TLS, which takes as long."""

STALLED_SECONDS = 60.0
"""A client that takes nothing for so long is cut off; what it takes is seen in steps, as buffers become free."""

_SHORTER = "the cache's file is shorter than what was to be sent"


# Neither is a PeerdError: those are answered with a document, and where one of these is raised an answer has begun.
class ClientLeft(Exception):
    """The client closed the connection, or took no byte for too long."""


class BodyBrokenOff(Exception):
    """The rest of a body that was begun can not be had: the connection is closed in order, before its end."""


Send = Callable[[Any], Awaitable[None]]
"""An application's way to answer (ASGI specification)."""


async def send_slice(part: Slice, send: Send) -> None:
    """Send one slice as a piece of the body that was begun. Raises ClientLeft, BodyBrokenOff."""
    await send({"type": ZEROCOPY, "file": part.file.fileno(), "offset": part.offset, "count": part.count})


class SendfileProtocol(HttpToolsProtocol):
    """One connection.

    Attributes:
        raw: None over TLS, and once the connection is lost.
        raw_lock: held by a thread that uses `raw`, and by who closes it.
        promised: whose answer a thread may have begun.
    """

    raw: socket.socket | None = None
    raw_lock: threading.Lock
    promised: RequestResponseCycle | None = None
    shown: frozenset[str] | None = None
    _writable: "asyncio.Future[None] | None" = None
    _was_cut_off = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A second handle on the connection's socket, for sendfile."""
        super().connection_made(transport)  # type: ignore[arg-type]
        if self.scheme == "http":
            self.raw = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
            self.raw.setblocking(False)
            self.raw_lock = threading.Lock()
        else:
            self.shown = names_shown(transport.get_extra_info("peercert"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake whoever waits for the socket, and close our handle."""
        super().connection_lost(exc)
        if self.raw is not None:
            self._wake()
            with self.raw_lock:  # Held by a thread for a system call that does not wait.
                self.raw.close()
                self.raw = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        async def with_sendfile(scope: Any, receive: Any, send: Any) -> None:
            sender = Sender(self, cycle, send)
            extensions = scope.setdefault("extensions", {})
            extensions[ZEROCOPY] = {}
            if self.raw is not None:
                extensions[OUTLET] = sender
            if self.shown is not None:
                scope[SHOWN] = self.shown
            try:
                await app(scope, receive, sender.send)
            except (ClientLeft, BodyBrokenOff, ClientDisconnect) as reason:
                # ClientDisconnect is Starlette's, where the client left while its request was being read.
                log.debug("connection closed before the body's end: %s", str(reason) or "the client left")
                cycle.disconnected = True
                self.transport.close()
            except asyncio.CancelledError:  # By uvicorn, when the time to drain is over; this is the task's own end.
                log.debug("connection closed before the body's end: the node ends")
                cycle.disconnected = True
                self.transport.abort()
            finally:
                extensions.pop(OUTLET, None)  # It refers to the scope, and to an open file.

        super()._start_asgi_task(cycle, with_sendfile)

    def shutdown(self) -> None:
        """The server ends. An idle TLS connection is not waited for: its other end may not read, and so never says goodbye."""
        if self.scheme == "https" and (self.cycle is None or self.cycle.response_complete):
            self.transport.abort()
        else:
            super().shutdown()

    async def writable(self) -> None:
        """Return when the socket takes bytes again. Raises ClientLeft."""
        if self.raw is None:
            raise ClientLeft("the connection is closed")
        self._writable = self.loop.create_future()
        self.loop.add_writer(self.raw.fileno(), self._wake)
        try:
            await self._before_it_stalls(self._writable)
        finally:
            self._wake()

    async def taken(self) -> None:
        """Return when the transport takes more. Raises ClientLeft."""
        if self.flow.write_paused:
            await self._before_it_stalls(self.flow.drain())

    async def _before_it_stalls(self, moves: Awaitable[None]) -> None:
        stalled = self.loop.call_later(STALLED_SECONDS, self._cut_off)  # asyncio.timeout is ten times as much Python.
        try:
            await moves
        finally:
            stalled.cancel()
        if self._was_cut_off:
            raise ClientLeft(f"the client took no byte for {STALLED_SECONDS:.0f} s")

    def _cut_off(self) -> None:
        """Ends what is waited for, too: it goes on when the connection is lost."""
        self._was_cut_off = True
        self.transport.abort()

    def _wake(self) -> None:
        if self._writable is not None:
            if self.raw is not None:
                self.loop.remove_writer(self.raw.fileno())
            if not self._writable.done():
                self._writable.set_result(None)
            self._writable = None

    async def drained(self) -> None:
        """Return when the transport's own buffer is empty. Raises ClientLeft."""
        if self.transport.get_write_buffer_size():
            self.transport.set_write_buffer_limits(0)
            await self._before_it_stalls(self.flow.drain())
            self.transport.set_write_buffer_limits(HIGH_WATER_LIMIT)


def outlet_of(scope: Mapping[str, Any]) -> "Sender | None":
    """Where the answer to a request may also be sent from a thread; None over TLS, and where another server asks."""
    sender: Sender | None = scope.get("extensions", {}).get(OUTLET)
    return sender


def head(status: int, ours: Iterable[tuple[bytes, bytes]], lines: bytes) -> bytes:
    """A response's head: what the server says of each (its `default_headers`), and the lines of this one."""
    data = STATUS_LINE[status]
    for line in ours:
        data += b"%b: %b\r\n" % line
    return data + lines + b"\r\n"


class _Head:
    """Stands in for the transport while uvicorn writes a response's head."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


def _nobody(_kind: SourceKind, _count: int) -> None:
    """Wants to know."""


class Sender:
    """The `send` of one request, and its outlet: what a thread sends is the same body, and neither sends while the other does."""

    def __init__(self, protocol: SendfileProtocol, cycle: RequestResponseCycle, send: Any) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self._send = send
        self._head = b""
        self._since_turn = 0
        self._promised: tuple[int, Callable[[SourceKind], bytes], int] | None = None
        self._told: Callable[[SourceKind, int], None] = _nobody

    def promise(self, status: int, lines: Callable[[SourceKind], bytes], count: int) -> None:
        """What the head is going to be, as in HEAD, once it is known where the first byte comes from; the outlet is open from now on."""
        self._promised = status, lines, count
        self._protocol.promised = self._cycle

    def withdraw(self) -> None:
        """What was promised was kept, or is not: another answer may be given. Who was told lets go of what he is told of."""
        self._promised = self._protocol.promised = None
        self._told = _nobody

    def tell(self, told: Callable[[SourceKind, int], None]) -> None:
        """Who wants to know what went out by the outlet."""
        self._told = told

    # As an Outlet

    @property
    def is_open(self) -> bool:
        """See `app.content.outlet.Outlet`: where uvicorn itself has nothing to send before, and the head is known, or was sent with a length."""
        cycle, transport = self._cycle, self._protocol.transport
        return (
            self._protocol.raw is not None
            and (cycle.chunked_encoding is False if cycle.response_started else self._promised is not None)
            and cycle.scope["method"] != "HEAD"
            and not cycle.disconnected
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )

    def take(self, part: Slice) -> int:
        """See `app.content.outlet.Outlet`."""
        cycle = self._cycle
        try:
            with self._protocol.raw_lock:
                raw = self._protocol.raw
                if raw is None:
                    return 0
                if not cycle.response_started and self._promised is not None:
                    status, lines, count = self._promised
                    self._begin(status, lines(part.kind), count)
                while self._head:
                    self._head = self._head[raw.send(self._head, socket.MSG_MORE) :]
                count = min(part.count, cycle.expected_content_length)
                sent = os.sendfile(raw.fileno(), part.file.fileno(), part.offset, count)
        except OSError:  # That it takes no more now is one, too.
            return 0
        except Exception:  # It would be taken for one of the source's, whose thread this is.
            log.exception("a part of an answer can not be sent from a thread")
            return 0
        cycle.expected_content_length -= sent
        return sent

    def went_out(self, kind: SourceKind, count: int) -> None:
        """See `app.content.outlet.Outlet`."""
        self._told(kind, count)

    # As an ASGI application's `send`

    async def send(self, message: Any) -> None:
        """One message of an answer. Raises ClientLeft, BodyBrokenOff."""
        self._see_that_it_is_open()
        if message["type"] == ZEROCOPY:
            await self._send_file(message["file"], message["offset"], message["count"])
        elif message["type"] == HEAD:
            self._begin(message["status"], message["lines"], message["count"])
        elif message["type"] == "http.response.start":
            head = _Head()
            transport, self._cycle.transport = self._cycle.transport, head  # type: ignore[assignment]
            try:
                await self._send(message)
            finally:
                self._cycle.transport = transport
            self._head = head.data
        else:
            head_data, self._head = self._head, b""
            if head_data:
                self._cycle.transport.write(head_data)
                self._see_that_it_is_open()
            await self._send(message)

    def _begin(self, status: int, lines: bytes, count: int) -> None:
        cycle = self._cycle
        cycle.response_started, cycle.waiting_for_100_continue = True, False
        cycle.chunked_encoding, cycle.expected_content_length = False, count
        self._head = head(
            status, cycle.default_headers, lines if cycle.keep_alive else lines + b"connection: close\r\n"
        )

    def _see_that_it_is_open(self) -> None:
        """A write that fails closes uvloop's transport at once, and `disconnected` is set in the next turn of the loop."""
        if self._cycle.disconnected or self._cycle.transport.is_closing():
            raise ClientLeft("the connection is closed")

    async def _send_file(self, fd: int, offset: int, count: int) -> None:
        cycle = self._cycle
        if not count:
            return
        if cycle.scope["method"] == "HEAD":
            # As uvicorn does with bytes: none is sent, and the length stands for what would be.
            cycle.expected_content_length = 0
            return
        before, self._head = self._head, b""
        after = b""
        if cycle.chunked_encoding:
            before, after = before + b"%x\r\n" % count, b"\r\n"
        elif count > cycle.expected_content_length:
            raise RuntimeError("Response content longer than Content-Length")
        else:
            cycle.expected_content_length -= count
        if self._protocol.scheme == "https":
            await self._send_pieces(before, fd, offset, count)
        else:
            await self._send_uncopied(before, fd, offset, count)
        if after:
            cycle.transport.write(after)

    async def _send_uncopied(self, before: bytes, fd: int, offset: int, count: int) -> None:
        await self._protocol.drained()
        while before:
            before = before[await self._write(lambda raw, data=before: raw.send(data, socket.MSG_MORE)) :]
        while count:
            piece = min(count, PIECE_BYTES)
            sent = await self._write(lambda raw, at=offset, size=piece: os.sendfile(raw.fileno(), fd, at, size))
            if not sent:
                raise BodyBrokenOff(_SHORTER)
            offset, count = offset + sent, count - sent
            await self._let_others(sent, PIECE_BYTES)

    async def _send_pieces(self, before: bytes, fd: int, offset: int, count: int) -> None:
        while count:
            data = await read_piece(fd, count, offset)
            if not data:
                raise BodyBrokenOff(_SHORTER)
            self._see_that_it_is_open()
            if before:
                self._cycle.transport.write(before)  # Not joined: that would copy the piece.
                before = b""
            self._cycle.transport.write(data)
            offset, count = offset + len(data), count - len(data)
            await self._protocol.taken()
            await self._let_others(len(data), ENCRYPTED_BYTES)

    async def _let_others(self, sent: int, bytes_max: int) -> None:
        """After so many bytes at most the loop gets a turn, over however many messages they are spread."""
        self._since_turn += sent
        if self._since_turn >= bytes_max:
            self._since_turn = 0
            await asyncio.sleep(0)

    async def _write(self, write: Any) -> int:
        while True:
            if self._cycle.disconnected or self._protocol.raw is None:
                raise ClientLeft("the connection is closed")
            try:
                return int(write(self._protocol.raw))
            except BlockingIOError:
                await self._protocol.writable()
            except OSError as error:
                raise ClientLeft(f"the connection broke: {error}") from error
