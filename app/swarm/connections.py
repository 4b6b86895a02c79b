"""Connections to other members, kept between requests: HTTP/1.1, over mutual TLS where there are certificates. Blocking, for threads.

Owns: which connections are kept and for how long. On http.client itself: what libraries put around it takes as long for a small request
as the request does, and copies each byte of a body once more.
"""

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import cast

from app.errors import SourceUnavailable
from app.server.certificates import Certificates
from peerd_gossip import Member

CONNECT_SECONDS = 1.0
KEPT_PER_MEMBER = 8

MadeWith = tuple[str, int]
"""Where the member lives, and which of this node's certificates are shown."""


class MemberConnection(HTTPConnection):
    """One connection. A certificate must be that of the member that is meant, wherever it lives."""

    def __init__(self, member: Member, made_with: MadeWith, tls: ssl.SSLContext | None) -> None:
        host, _, port = member.peer_addr.rpartition(":")
        super().__init__(host.strip("[]"), int(port))
        self.member = member.name
        self.made_with = made_with
        self.wire: socket.socket | None = None
        """What bytes come over; `sock` is let go of as soon as an answer says that it is the last one."""

        self._tls = tls

    def connect(self) -> None:
        """Raises OSError."""
        plain = socket.create_connection((self.host, self.port), CONNECT_SECONDS)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tls = self._tls
            self.wire = self.sock = (
                plain if tls is None else tls.wrap_socket(plain, server_hostname=f"{self.member}.peerd")
            )
        except BaseException:
            plain.close()
            raise

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come since the last answer: neither its end nor anything that nobody asked for."""
        looking = select.poll()
        looking.register(self.sock, select.POLLIN)
        return not looking.poll(0)

    def hang_up(self) -> None:
        """Wake the thread that reads from it, with an end. From any thread."""
        if self.wire is not None:
            # Not SSLSocket's own: it forgets the TLS state first, and the thread would read ciphertext as if it were the body.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self.wire, socket.SHUT_RDWR)


class Connections:
    """To all members. Safe to call from threads."""

    def __init__(self, certificates: Certificates | None) -> None:
        self._certificates = certificates
        self._kept: dict[str, list[MemberConnection]] = {}
        self._in_use: set[MemberConnection] = set()
        self._lock = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """Give all back; threads that read from one are woken, so that none outlives the node."""
        with self._lock:
            self._closed = True
            for connection in self._in_use:
                connection.hang_up()
            for kept in self._kept.values():
                _close(kept)
            self._kept.clear()

    @contextmanager
    def answer(
        self,
        member: Member,
        method: str,
        path: str,
        *,
        body: bytes | None,
        headers: Mapping[str, str],
        silence_seconds: float,
    ) -> Iterator[tuple[HTTPResponse, socket.socket]]:
        """A member's answer, and what its body comes from. The connection is kept where the body was read to its end.

        Raises SourceUnavailable where the member can not be reached, or says nothing for so long; what is raised within the block
        passes, with errors of the connection translated in the same way.
        """
        connection = self._take(member)
        try:
            with self._used(connection):
                if connection.wire is None:
                    connection.connect()
                wire = cast("socket.socket", connection.wire)
                wire.settimeout(silence_seconds)
                connection.request(method, path, body, dict(headers))
                with connection.getresponse() as response:
                    yield response, wire
                    # What is left unread would be taken for the next answer.
                    is_over = response.isclosed() and not response.will_close
        except BaseException as error:
            connection.close()
            if isinstance(error, (HTTPException, OSError)):
                raise SourceUnavailable(str(error) or type(error).__name__) from error
            raise
        if is_over:
            self._keep(connection)
        else:
            connection.close()

    def _take(self, member: Member) -> MemberConnection:
        """One that is kept and nothing has come from, or a new one."""
        tls = self._certificates.client() if self._certificates is not None else None
        made_with = member.peer_addr, self._certificates.generation if self._certificates is not None else 0
        while True:
            with self._lock:
                kept = self._kept.get(member.name)
                connection = kept.pop() if kept else None
            if connection is None:
                return MemberConnection(member, made_with, tls)
            if connection.made_with == made_with and connection.is_quiet:
                return connection
            connection.close()

    @contextmanager
    def _used(self, connection: MemberConnection) -> Iterator[None]:
        with self._lock:
            self._in_use.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._in_use.discard(connection)

    def _keep(self, connection: MemberConnection) -> None:
        with self._lock:
            kept = self._kept.setdefault(connection.member, [])
            kept.append(connection)
            surplus = kept[:] if self._closed else kept[:-KEPT_PER_MEMBER]
            del kept[: len(surplus)]
        _close(surplus)


def _close(connections: list[MemberConnection]) -> None:
    for connection in connections:
        connection.close()
