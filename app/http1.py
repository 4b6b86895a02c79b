"""One HTTP/1.1 request and its answer over a connected socket. Blocking, for threads.

Bodies are http.client's: they fill a buffer of the caller's, and are decoded where they are chunked. Heads are not, because the standard
library reads them as e-mail, which is more Python than all the rest of an exchange: llhttp does, by httptools, as at the other end (uvicorn).

Owns: what stands on the wire before a body, and what is believed of an answer's head.
"""

import io
import re
import select
import socket
import struct
from collections.abc import Iterator, Mapping
from http.client import HTTPException, HTTPResponse, RemoteDisconnected
from typing import Any

import httptools

HEAD_BYTES_MAX = 64 << 10
INTERIM_MAX = 16
"""Heads before that of the final answer (RFC 9110, section 15.2), which are passed over."""

_BUFFER_BYTES = 8 << 10

# RFC 9110, sections 5.1 and 5.5; RFC 9112, section 3.2. What is not of this kind could end a line and begin another.
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t \x21-\x7e\x80-\xff]*")
_EMPTY_LINE = re.compile(rb"\n\r?\n")
_TARGET = re.compile(r"[\x21-\x7e]+")


class NotHttp(HTTPException):
    """What came, or was to be sent, is not HTTP/1.1. Its text is ours and names nobody."""


class Headers(Mapping[str, str]):
    """What a head says by name, whatever the name's case; of several lines of one name all, with commas between (RFC 9110, section 5.3)."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def add(self, line_name: bytes, line_value: bytes) -> None:
        """One line more."""
        name, value = line_name.decode("latin-1").lower(), line_value.decode("latin-1").strip(" \t")
        known = self._values.get(name)
        self._values[name] = value if known is None else f"{known}, {value}"

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def get(self, name: str, default: Any = None) -> Any:
        """As a dict's; `Mapping` would ask three times."""
        return self._values.get(name.lower(), default)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Headers {', '.join(self._values)}>"  # Values may be secret.


class Response(HTTPResponse):
    """An answer. `headers` and `will_close` are right once it was begun; `status` is that of the final answer, not of one before it."""

    headers: Headers  # type: ignore[assignment]
    will_close: bool
    chunked: bool

    def begin(self) -> None:
        """Read the head. Raises OSError, and HTTPException for what is no head."""
        for _ in range(INTERIM_MAX + 1):
            head = _Head(self._lines())
            if head.status >= 200:
                break
        else:
            raise NotHttp(f"answers with more than {INTERIM_MAX} heads before the final one")
        codings = head.headers.get("Transfer-Encoding")
        if codings is not None and {coding.strip() for coding in codings.lower().split(",")} - {""} != {"chunked"}:
            raise NotHttp("answers in a transfer coding that was not asked for")
        self.status = self.code = head.status
        self.headers = self.msg = head.headers  # type: ignore[assignment]
        self.chunked = codings is not None
        self.chunk_left = None
        self.length = self._length()
        self.will_close = head.is_last or (self.length is None and not self.chunked)

    def _lines(self) -> bytes:
        ahead = self.fp.peek(1)
        end = _EMPTY_LINE.search(ahead)
        if end is not None and not ahead.startswith((b"\r", b"\n")):
            return self.fp.read(end.end())
        lines, size = [], 0
        while True:
            line = self.fp.readline(HEAD_BYTES_MAX + 1 - size)
            lines.append(line)
            size += len(line)
            if size > HEAD_BYTES_MAX:
                raise NotHttp(f"answers with a head of more than {HEAD_BYTES_MAX} bytes")
            if line in (b"\r\n", b"\n"):
                return b"".join(lines)
            if not line.endswith(b"\n"):
                raise RemoteDisconnected("closed before it answered")

    def _length(self) -> int | None:
        """Of the body, in bytes; None where its own framing or the connection's end says it (RFC 9112, section 6.3)."""
        if self.status in (204, 304):
            return 0
        length = self.headers.get("Content-Length", "")
        return int(length) if not self.chunked and length.isdecimal() else None


class _Head:
    """A head, read; llhttp calls it with each line. `is_last`: the connection ends with this answer. Raises NotHttp."""

    def __init__(self, lines: bytes) -> None:
        self.headers = Headers()
        self.on_header = self.headers.add
        self.status = 0
        self.is_last = True
        self._parser = parser = httptools.HttpResponseParser(self)
        # A line may end without CR or go on in the next one, and of two framings the chunked one counts. Not two lengths, though.
        parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_chunked_length=True, lenient_optional_cr_before_lf=True
        )
        try:
            parser.feed_data(lines)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise NotHttp("answers with something else than HTTP/1.1") from error
        finally:
            del self._parser  # Which refers to this.

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.is_last = not self._parser.should_keep_alive()


class _Incoming(io.RawIOBase):
    """What comes over a plain socket, for `Response`.

    Where it waits in the kernel (`be_patient`), a piece of a body is one system call however it comes, not two for each part of it; and as often
    Python's lock, which all threads that carry bytes wait for, is let go and taken again.
    """

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self, _BUFFER_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, into: memoryview) -> int:  # type: ignore[override]
        # What fills the buffer may be the end of an answer; more than that is asked for only where it is to come.
        flags = socket.MSG_WAITALL if len(into) > _BUFFER_BYTES else 0
        for _ in range(_WAITS):
            try:
                return self._wire.recv_into(into, len(into), flags)
            except BlockingIOError:
                pass
        raise TimeoutError("timed out")


_WAITS = 2
"""In so many parts an answer's silence is waited for: a part in which something came ends with what there is, and is no silence."""


def be_patient(wire: socket.socket, seconds: float) -> None:
    """From now on wait so long for bytes to go out or come in, and up to half as long again; in the kernel where that is possible."""
    if type(wire) is not socket.socket:  # What TLS makes of bytes that come is not for the kernel to know.
        wire.settimeout(seconds)
    else:
        wire.settimeout(None)
        _let_wait(wire, socket.SO_RCVTIMEO, seconds / _WAITS)
        _let_wait(wire, socket.SO_SNDTIMEO, seconds)


def _let_wait(wire: socket.socket, option: int, seconds: float) -> None:
    whole, part = divmod(max(1, round(seconds * 1e6)), 1_000_000)  # None at all would be for ever (socket(7)).
    wire.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", whole, part))


def ask(
    wire: socket.socket, method: str, target: str, headers: Mapping[str, str], body: bytes | None = None
) -> Response:
    """Send a request and read the answer's head.

    Close the response, or read it to its end, before the next request; not at all where it `will_close`.

    Args:
        wire: connected, TLS or not; its time-out is between two bytes (`be_patient`).
        method: GET or POST.
        target: the request target's own bytes, `%2b` and all.
        headers: all of them but `Content-Length`; `Host` too.
        body: a POST's.

    Raises:
        OSError: the connection broke, or nothing came in time.
        HTTPException: no answer came; NotHttp: none of HTTP/1.1, or the target or a header would not be one any more on the wire.
    """
    if body is not None:
        headers = {**headers, "Content-Length": str(len(body))}
    if _TARGET.fullmatch(target) is None:
        raise NotHttp("a request target has a character that it can not have")
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    # Of all together, which is as good: there is no character that only the first or the last of a name or value may be.
    if "" in headers or not (_NAME.fullmatch("".join(headers)) and _VALUE.fullmatch("".join(headers.values()))):
        raise NotHttp(f"a header {_wrong(headers)!r} has a character that it can not have")
    try:
        wire.sendall(f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + (body or b""))
    except BlockingIOError as error:
        raise TimeoutError("timed out") from error
    response = Response(_Incoming(wire) if type(wire) is socket.socket else wire, method=method)  # type: ignore[arg-type]
    try:
        response.begin()
    except BaseException:
        response.close()
        raise
    return response


def _wrong(headers: Mapping[str, str]) -> str:
    """The name of the first that can not be sent."""
    return next(
        (name for name, value in headers.items() if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value))), ""
    )


def is_quiet(wire: socket.socket) -> bool:
    """Whether nothing has come since the last answer: neither the connection's end nor anything that nobody asked for."""
    # What TLS has taken from the socket is not seen there: a rest that is decrypted, and of urllib3's TLS within TLS what is not yet.
    pending = getattr(getattr(wire, "sslobj", wire), "pending", None)
    if pending is not None and pending():
        return False
    incoming = getattr(wire, "incoming", None)
    if incoming is not None and incoming.pending:
        return False
    looking = select.poll()
    looking.register(wire, select.POLLIN)
    return not looking.poll(0)
