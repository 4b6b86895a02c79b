"""Connections to other members, kept between requests: HTTP/1.1, over mutual TLS where there are certificates. Blocking, for threads.

Owns: which connections are kept and for how long.
"""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException

from app.errors import SourceUnavailable
from app.http1 import Response, ask, is_quiet
from app.server.certificates import Certificates
from peerd_gossip import Member

CONNECT_SECONDS = 1.0
KEPT_PER_MEMBER = 8

MadeWith = tuple[str, int]
"""Where the member lives, and which of this node's certificates are shown."""


class MemberConnection:
    """One connection, made when it is first asked for. A certificate must be that of the member that is meant, wherever it lives."""

    def __init__(self, member: Member, made_with: MadeWith, tls: ssl.SSLContext | None) -> None:
        self.member = member.name
        self.address = member.peer_addr
        self.made_with = made_with
        self._tls = tls
        self._wire: socket.socket | None = None

    def connected(self) -> socket.socket:
        """What bytes come over. Raises OSError."""
        if self._wire is None:
            host, _, port = self.address.rpartition(":")
            plain = socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS)
            try:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                tls = self._tls
                self._wire = plain if tls is None else tls.wrap_socket(plain, server_hostname=f"{self.member}.peerd")
            except BaseException:
                plain.close()
                raise
        return self._wire

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come since the last answer: neither its end nor anything that nobody asked for."""
        return self._wire is not None and is_quiet(self._wire)

    def hang_up(self) -> None:
        """Wake the thread that reads from it, with an end. From any thread."""
        if self._wire is not None:
            # Not SSLSocket's own: it forgets the TLS state first, and the thread would read ciphertext as if it were the body.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._wire, socket.SHUT_RDWR)

    def close(self) -> None:
        """Give it back."""
        if self._wire is not None:
            self._wire.close()


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
    ) -> Iterator[tuple[Response, socket.socket]]:
        """A member's answer, and what its body comes from. The connection is kept where the body was read to its end.

        Raises SourceUnavailable where the member can not be reached, or says nothing for so long; what is raised within the block
        passes, with errors of the connection translated in the same way.
        """
        connection = self._take(member)
        try:
            with self._used(connection):
                wire = connection.connected()
                wire.settimeout(silence_seconds)
                with ask(wire, method, path, {"Host": connection.address, **headers}, body) as response:
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
