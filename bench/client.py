"""A client that keeps a server busy over kept connections: one thread, epoll, large reads, so that the server is what is measured."""

import re
import select
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

READ_BYTES = 256 << 10
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_STALLED_SECONDS = 30

Request = tuple[str, Mapping[str, str]]
"""A target and headers."""


@dataclass
class Load:
    """What came of it."""

    seconds: float = 0.0
    body_bytes: int = 0
    latencies: list[float] = field(default_factory=list)

    @property
    def gib_per_second(self) -> float:
        """Of bodies."""
        return self.body_bytes / (1 << 30) / self.seconds

    @property
    def requests_per_second(self) -> float:
        """Over all connections."""
        return len(self.latencies) / self.seconds

    def latency(self, part: float) -> float:
        """The time in seconds within which `part` of all requests were answered."""
        return sorted(self.latencies)[min(len(self.latencies) - 1, int(part * len(self.latencies)))]


class _Connection:
    def __init__(self, port: int, tls: ssl.SSLContext | None) -> None:
        plain = socket.create_connection(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket: socket.socket = plain if tls is None else tls.wrap_socket(plain)
        self.tls = tls is not None
        self.socket.setblocking(False)
        self.head: bytearray | None = None
        self.left = 0
        self.was_busy = False
        self.began = 0.0

    def ask(self, request: Request, port: int) -> None:
        target, headers = request
        lines = [f"GET {target} HTTP/1.1", f"Host: 127.0.0.1:{port}", *(f"{k}: {v}" for k, v in headers.items())]
        self.began, self.head, self.left = time.monotonic(), bytearray(), -1
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())


def load(
    port: int,
    next_request: Callable[[], Request | None],
    *,
    connections: int,
    seconds: float = 1e9,
    tls: ssl.SSLContext | None = None,
    may_be_busy: bool = False,
) -> Load:
    """Ask over so many connections, each for one thing after the other, until the time is over or there is no next request.

    `may_be_busy`: a member that has no time says so (503), and is asked for something else; that counts for nothing but the time.
    Raises RuntimeError on any other answer but 200 and 206.
    """
    statuses = (b"200", b"206", b"503") if may_be_busy else (b"200", b"206")
    result, buffer = Load(), memoryview(bytearray(READ_BYTES))
    pool = {(connection := _Connection(port, tls)).socket.fileno(): connection for _ in range(connections)}
    began = time.monotonic()

    def go_on(connection: _Connection) -> bool:
        request = next_request() if time.monotonic() - began < seconds else None
        if request is not None:
            connection.ask(request, port)
        return request is not None

    with select.epoll() as poll:
        for fd in pool:
            poll.register(fd, select.EPOLLIN)
        busy = sum(map(go_on, pool.values()))
        while busy:
            ready = poll.poll(_STALLED_SECONDS)
            if not ready:
                raise RuntimeError("the server stalled")
            for fd, _ in ready:
                busy -= _read(pool[fd], buffer, result, go_on, statuses)
    result.seconds = time.monotonic() - began
    for connection in pool.values():
        connection.socket.close()
    return result


def _read(
    connection: _Connection,
    buffer: memoryview,
    result: Load,
    go_on: Callable[[_Connection], bool],
    statuses: Sequence[bytes],
) -> bool:
    """Take what is there; tells whether this connection has nothing more to do."""
    while True:
        try:
            count = connection.socket.recv_into(buffer)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        if not count:
            raise RuntimeError("the server hung up")
        if _took(connection, buffer[:count], result, statuses) and not go_on(connection):
            return True
        if not connection.tls and count < READ_BYTES:
            return False


def _took(connection: _Connection, piece: memoryview, result: Load, statuses: Sequence[bytes]) -> bool:
    """Whether with this piece the answer is whole."""
    count = len(piece)
    if connection.left < 0:
        head = connection.head
        assert head is not None
        before = len(head)
        end = piece.tobytes() if not before else bytes(head) + piece.tobytes()
        at = end.find(b"\r\n\r\n")
        if at < 0:
            head += piece
            return False
        if end[9:12] not in statuses:
            raise RuntimeError(f"the server answered {end[:500]!r}")
        length = _LENGTH.search(end, 0, at + 2)
        if length is None:
            raise RuntimeError(f"an answer without a length: {end[:at]!r}")
        connection.left = int(length[1])
        connection.was_busy = end[9:12] == b"503"
        result.body_bytes += connection.left
        count = len(end) - at - 4
    connection.left -= count
    if connection.left < 0:
        raise RuntimeError("the server sent more than it said")
    if connection.left:
        return False
    if not connection.was_busy:
        result.latencies.append(time.monotonic() - connection.began)
    connection.left = -1
    return True
