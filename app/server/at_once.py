"""Answers whose bytes are all at hand, sent from where the request is read: no ASGI scope, no task, no turn of the loop.

Owns: such an answer on its way, from its head to its last byte, and its place among the others of its connection. Whether a request has
one is for an `Answerer` to say; every other request takes uvicorn's way. A request that comes while such an answer is on its way takes
it too, and waits there for the answer's end.

Beside what `sendfile` touches of uvicorn: `data_received`, `on_message_begin`, `on_headers_complete`, `on_message_complete`,
`send_400_response` and `shutdown` of its protocol, its `parser`, `url`, `headers`, `cycle`, `pipeline`, `server_state` and keep-alive seconds.
tests/server/test_at_once.py holds it to that.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.server.repeated import AskedT, Repeated
from app.server.sendfile import PIECE_BYTES, STALLED_SECONDS, ClientLeft, SendfileProtocol, head

log = logging.getLogger(__name__)


class HasFileno(Protocol):
    """An open file."""

    def fileno(self) -> int:
        """Its number, valid as long as the object lives."""


class Ready(Protocol):
    """An answer all of whose bytes are at hand.

    Attributes:
        status: of HTTP.
        headers: lines, each with its CR LF, Content-Length among them.
        file: what is sent, `count` bytes from `offset`.
    """

    @property
    def status(self) -> int: ...  # noqa: D102 -- see the class
    @property
    def headers(self) -> bytes: ...  # noqa: D102
    @property
    def file(self) -> HasFileno: ...  # noqa: D102
    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def count(self) -> int: ...  # noqa: D102

    def sent(self, count: int) -> None:
        """So many bytes more of the body went out."""

    def ended(self, *, whole: bool) -> None:
        """The last byte went out, or no more will. Called once."""


class Answerer(Protocol[AskedT]):
    """Who knows answers."""

    def read(self, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> AskedT | None:
        """What is said by a GET of `target`, as it was sent, with these headers, their names in lower case.

        None: ask the application; so it is where there is a body, or more than one Range.
        """

    def answer(self, asked: AskedT) -> Ready | None:
        """The answer that is at hand; None: ask the application."""


class _Sending:
    """One answer on its way."""

    __slots__ = ("answer", "count", "head", "offset", "over", "timer", "watched")

    def __init__(self, answer: Ready, head: bytes) -> None:
        self.answer = answer
        self.head = head
        self.offset = answer.offset
        self.count = answer.count
        self.over: asyncio.Future[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.watched = False


class AtOnceProtocol(SendfileProtocol):
    """One connection. Over TLS nothing is answered at once.

    Attributes:
        in_message: between a request's first byte and its last.
        begun_here: how many requests began in what was received last.
    """

    def __init__(self, *args: Any, answerer: Answerer[Any] | None = None, **more: Any) -> None:
        super().__init__(*args, **more)
        self.in_message = False
        self.begun_here = 0
        self._answerer = answerer
        self._sending: _Sending | None = None
        self._repeated: Repeated[Any] | None = None
        self._answered: Any = None
        self._was_answered = False
        self._has_begun = False
        self._is_last = False
        self._idle_since: float | None = None
        self._idle_timer: asyncio.TimerHandle | None = None

    @property
    def is_answering(self) -> bool:
        """Whether an answer is on its way, this one's or the application's."""
        return self._sending is not None or (self.cycle is not None and not self.cycle.response_complete)

    @property
    def is_sending_at_once(self) -> bool:
        """Whether an answer of this one's is on its way."""
        return self._sending is not None

    @property
    def has_answer_begun(self) -> bool:
        """Whether something of an answer went out, or may have, and not all."""
        if self._sending is not None or self.pipeline:  # `cycle` is the last that came; those before it are not done.
            return True
        cycle = self.cycle
        return cycle is not None and (cycle.response_started or cycle is self.promised) and not cycle.response_complete

    def data_received(self, data: bytes) -> None:
        """Some of a request, or of several."""
        # The parser need not see a request that is known, as it is between two: only what was one request, and nothing else, is
        # remembered, and only until something else comes. Nor has uvicorn's idle timer to be stopped: no answer of the application's
        # was given meanwhile, which would have started it.
        repeated, self._repeated = self._repeated, None
        if repeated is not None and self._is_free and (asked := repeated.says(data)) is not None:
            self._idle_since = None
            if self._answer(asked):
                self._repeated = repeated
                return
        self._answered, self.begun_here = None, 0
        is_between = not self.in_message
        super().data_received(data)
        if self._answered is not None and is_between and self.begun_here == 1:  # It has no body, so it is whole.
            self._repeated = Repeated.of(data, self._answered)

    def on_message_begin(self) -> None:
        """A request's first byte is here."""
        super().on_message_begin()
        self._has_begun, self._idle_since = True, None
        self.in_message = True
        self.begun_here += 1

    def on_headers_complete(self) -> None:
        """A request's head is here."""
        self._has_begun = False
        parser = self.parser
        self._was_answered = (
            self._is_free
            and parser.get_method() == b"GET"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and self._answer()
        )
        if not self._was_answered:
            super().on_headers_complete()
            if self._is_last:
                self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """A request's last byte is here."""
        self.in_message = False
        if not self._was_answered:
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """What was being sent does not arrive."""
        if self._sending is not None:
            self._end(whole=False)
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What can not be read is answered so; not within another answer, whose client would take it for that one's bytes."""
        if self.has_answer_begun:
            self.transport.close()
        else:
            super().send_400_response(msg)

    def shutdown(self) -> None:
        """The server ends: what is being sent is the last answer."""
        if self._sending is None:
            super().shutdown()
            return
        self._is_last = True
        if self.cycle is not None:
            self.cycle.keep_alive = False

    @property
    def _is_free(self) -> bool:
        """Whether what is at hand may be sent now."""
        transport = self.transport
        return (
            self.raw is not None
            and not self.is_answering
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )

    def _answer(self, asked: Any = None) -> bool:
        """Begin to send what is at hand for `asked`, None: for what was just read. False: ask the application."""
        if self._answerer is None or self.raw is None:
            return False
        try:
            if asked is None:
                asked = self._answerer.read(self.url, self.headers)
            answer = None if asked is None else self._answerer.answer(asked)
        except Exception:  # Raised from here it would be a 400 for the client, or the connection's end.
            log.exception("what is at hand can not be answered at once")
            return False
        if answer is None:
            return False
        self._answered = asked
        self._sending = _Sending(answer, head(answer.status, self.server_state.default_headers, answer.headers))
        self._send(self._sending, self.raw)
        return True

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """A request that waits for the application: after what is being sent."""
        before = self._sending
        if before is None:
            super()._start_asgi_task(cycle, app)
            return
        over = before.over = self.loop.create_future()

        async def afterwards(scope: Any, receive: Any, send: Any) -> None:
            await over
            if self.transport.is_closing():
                raise ClientLeft("the connection is closed")
            await app(scope, receive, send)

        super()._start_asgi_task(cycle, afterwards)

    def _go_on(self) -> None:
        """Send what the socket takes."""
        sending = self._sending
        if sending is None or self.raw is None:
            return
        if self.transport.is_closing():
            self._end(whole=False)
        else:
            self._send(sending, self.raw)

    def _send(self, sending: _Sending, raw: socket.socket) -> None:
        try:
            while sending.head:
                sending.head = sending.head[raw.send(sending.head, socket.MSG_MORE) :]
            while sending.count:
                piece = min(sending.count, PIECE_BYTES)
                sent = os.sendfile(raw.fileno(), sending.answer.file.fileno(), sending.offset, piece)
                if not sent:
                    log.warning("an answer is broken off: the cache's file is shorter than what was to be sent")
                    self._end(whole=False)
                    self.transport.close()
                    return
                sending.offset += sent
                sending.count -= sent
                sending.answer.sent(sent)
                if sending.count and sent == piece:  # The others get their turn, however fast this client reads.
                    self._watch_no_more(sending)
                    self.loop.call_soon(self._go_on)
                    return
        except BlockingIOError:
            self._wait(sending)
        except OSError as error:
            log.debug("connection closed before the body's end: %s", error)
            self._end(whole=False)
            self.transport.abort()
        else:
            self._end(whole=True)

    def _wait(self, sending: _Sending) -> None:
        """Go on when the client has read some."""
        if self.raw is not None and not sending.watched:
            sending.watched = True
            self.loop.add_writer(self.raw.fileno(), self._go_on)
        self._keep_no_timer(sending)
        sending.timer = self.loop.call_later(STALLED_SECONDS, self._give_up_on_client)

    def _give_up_on_client(self) -> None:
        log.debug("connection closed before the body's end: the client took no byte for %.0f s", STALLED_SECONDS)
        self._end(whole=False)
        self.transport.abort()

    def _watch_no_more(self, sending: _Sending) -> None:
        self._keep_no_timer(sending)
        if sending.watched and self.raw is not None:
            self.loop.remove_writer(self.raw.fileno())
            sending.watched = False

    @staticmethod
    def _keep_no_timer(sending: _Sending) -> None:
        if sending.timer is not None:
            sending.timer.cancel()
            sending.timer = None

    def _end(self, *, whole: bool) -> None:
        """The answer is over; the next request may be answered."""
        sending, self._sending = self._sending, None
        if sending is None:
            return
        self._watch_no_more(sending)
        try:
            sending.answer.ended(whole=whole)
        except Exception:  # As above; and the next answer waits for this one's end.
            log.exception("the end of an answer could not be told")
        self.server_state.total_requests += 1
        if sending.over is not None and not sending.over.done():
            sending.over.set_result(None)
        if not whole or self.transport.is_closing() or (self.cycle is not None and not self.cycle.response_complete):
            return
        if self._is_last:
            self.transport.close()
            return
        if self._has_begun:  # The answer to what is coming sees to it.
            return
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._look_again(self.timeout_keep_alive)

    def _look_again(self, seconds: float) -> None:
        """One timer for many answers: to arm and cancel one for each costs a twentieth of it."""
        self._idle_timer = self.loop.call_later(seconds, self._close_if_idle)

    def _close_if_idle(self) -> None:
        self._idle_timer = None
        if self._idle_since is None or self.transport.is_closing():
            return  # A request has begun: its answer's end looks again, or uvicorn does.
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._look_again(left)
        else:
            self.transport.close()
