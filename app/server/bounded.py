"""How much of a request a client may send, and how long it may take to: uvicorn bounds neither.

Owns: the size of a request's head, and the time from a connection's first moment, or a request's first byte, to the request's
last. Requests here are short, whatever their answers are. Who takes longer is hung up on without a word: containerd repeats a
408 at once at the same host.
"""

import asyncio
import http

from app.server.at_once import AtOnceProtocol

HEAD_BYTES_MAX = 64 << 10
"""Of a request line with a signed URL of 16 KiB, and a header with a token of as much; nginx takes 32 KiB, Go 1 MiB."""

REQUEST_SECONDS = 30.0


class BoundedRequests(AtOnceProtocol):
    """One connection, with bounds: what a door is made of."""

    _head_bytes = 0
    _arriving = 0
    _head_is_whole = False
    _too_large = False
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The first request is waited for from now on."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        super().connection_lost(exc)
        self._keep_no_deadline()

    def data_received(self, data: bytes) -> None:
        """Some of a request."""
        self._arriving = len(data)
        was_in_message = self.in_message
        super().data_received(data)
        if not self.in_message or self.transport.is_closing():
            return
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self._give_up)
        if not self._head_is_whole:
            # Of a piece that begins with the end of another request it is not known how much is this one's.
            if self.begun_here == 0 or (self.begun_here == 1 and not was_in_message):
                self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._too_large = True
                self.send_400_response("")

    def on_message_begin(self) -> None:
        """A request's first byte."""
        super().on_message_begin()
        self._head_is_whole = False
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """A request's head is here; raises where it is too large, which ends in `send_400_response`."""
        if self._head_bytes + self._arriving > HEAD_BYTES_MAX:  # Else it can not be, and is not counted.
            size = len(self.url) + sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers)
            self._too_large = size > HEAD_BYTES_MAX
            if self._too_large:
                raise ValueError(f"a head of {size} bytes")
        self._head_is_whole = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request's last byte."""
        self._keep_no_deadline()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What can not be read is answered 400, and a head that is too large 431 (RFC 6585, section 5); then it is over."""
        if not self._too_large or self.has_answer_begun:
            super().send_400_response(msg)
            return
        status = http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        text = f"a request's head has at most {HEAD_BYTES_MAX} bytes here\n".encode()
        self.transport.write(
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n".encode()
            + text
        )
        self.transport.close()

    def _keep_no_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        # What was sent ahead of an answer that still runs is not read until that has ended.
        if self.pipeline or self.is_sending_at_once or (self.is_answering and not self._head_is_whole):
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self._give_up)
            return
        self._deadline = None
        self.transport.close()
