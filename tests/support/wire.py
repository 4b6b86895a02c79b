"""HTTP/1.1 on a raw socket, so that a test sees what a library would hide: how a body ended, and a target as it was sent."""

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Self

SILENCE_SECONDS_MAX = 40.0
"""Longer than any time-out of a node."""

_PIECE_BYTES = 256 << 10


class End(Enum):
    """How a body ended."""

    WHOLE = "as its framing said"
    EARLY = "by an orderly close before its end (FIN)"
    RESET = "by a reset (RST)"


@dataclass(frozen=True)
class Head:
    """Status and headers, names in lower case."""

    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    """An answer, read as far as it went."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    end: End

    @property
    def correct(self) -> bool:
        """Whether it promised success and kept it."""
        return self.status in (200, 206) and self.end is End.WHOLE


class Wire:
    """One connection."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=SILENCE_SECONDS_MAX)
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def ask(
        self, target: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Reply:
        """Send a request, and read the answer to its end."""
        head = self.begin(target, method=method, headers=headers, body=body)
        content, end = self._body(head, method)
        return Reply(head.status, head.headers, bytes(content), end)

    def begin(
        self, target: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Head:
        """Send a request, and read the answer's head."""
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self._socket.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b""))
        status_line, *fields = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        assert re.match(r"HTTP/1\.1 \d{3} ", status_line), status_line
        pairs = [field.split(":", 1) for field in fields if field]
        return Head(int(status_line.split()[1]), {name.lower(): value.strip() for name, value in pairs})

    def read(self, count: int) -> tuple[bytearray, End]:
        """The next `count` bytes of a body, or those up to where it broke off."""
        body = bytearray(count)
        view, at = memoryview(body), min(count, len(self._buffer))
        view[:at] = self._buffer[:at]
        del self._buffer[:at]
        try:
            while at < count:
                got = self._socket.recv_into(view[at : at + _PIECE_BYTES])
                if not got:
                    return bytearray(view[:at]), End.EARLY
                at += got
        except ConnectionResetError:
            return bytearray(view[:at]), End.RESET
        return body, End.WHOLE

    def _body(self, head: Head, method: str) -> tuple[bytearray, End]:
        if method == "HEAD" or head.status in (204, 304):
            return bytearray(), End.WHOLE
        if head.headers.get("transfer-encoding") == "chunked":
            return self._chunked()
        return self.read(int(head.headers["content-length"]))

    def _chunked(self) -> tuple[bytearray, End]:
        """RFC 9112, section 7.1; a body without its last chunk is not whole."""
        body = bytearray()
        try:
            while count := int(self._until(b"\r\n"), 16):
                piece, end = self.read(count + 2)
                body += piece[:count]
                if end is not End.WHOLE:
                    return body, end
            self._until(b"\r\n")
        except EOFError:
            return body, End.EARLY
        except ConnectionResetError:
            return body, End.RESET
        return body, End.WHOLE

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            piece = self._socket.recv(_PIECE_BYTES)
            if not piece:
                raise EOFError(f"closed before {mark!r}; so far: {bytes(self._buffer[:200])!r}")
            self._buffer += piece
        found, _, rest = bytes(self._buffer).partition(mark)
        self._buffer = bytearray(rest)
        return found


def byteranges(reply: Reply) -> list[tuple[str, bytes]]:
    """The parts of a multipart/byteranges body (RFC 9110, section 14.6): each one's Content-Range and bytes."""
    match = re.fullmatch(r"multipart/byteranges; boundary=([0-9A-Za-z]+)", reply.headers["content-type"])
    assert match, reply.headers
    border = b"--" + match[1].encode()
    body, at = reply.body, 0
    parts: list[tuple[str, bytes]] = []
    while not body.startswith(border + b"--", at):
        assert body.startswith(border + b"\r\n", at), body[at : at + 80]
        head_end = body.index(b"\r\n\r\n", at)
        fields = dict(line.split(": ", 1) for line in body[at:head_end].decode().split("\r\n")[1:])
        first, last = map(int, re.findall(r"\d+", fields["Content-Range"])[:2])
        start, stop = head_end + 4, head_end + 4 + last - first + 1
        parts.append((fields["Content-Range"], body[start:stop]))
        assert body[stop : stop + 2] == b"\r\n", body[stop : stop + 80]
        at = stop + 2
    assert body[at:] == border + b"--\r\n", body[at:]
    return parts
