"""The asking side of the peer door: kept connections to members, over mutual TLS. Blocking, for threads.

Owns: connections, and what of an answer is believed. Knows nothing of whom to ask; that is `peers` and `ranking`.
"""

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import urllib3
from urllib3.exceptions import HTTPError

from app.content.byte_range import ByteRange
from app.content.key import ContentKey
from app.content.source import Sink
from app.errors import SourceLied, SourceUnavailable
from app.swarm import protocol
from peerd_gossip import Member

CONNECT_SECONDS = 1.0
STALL_SECONDS = 1.0
"""A member that sends no byte for so long is left for another."""

CONNECTIONS_PER_MEMBER = 8
PIECE_BYTES = 256 << 10


class Denied(SourceUnavailable):
    """The member does not have it after all: its filter was wrong, or out of date."""


class Busy(SourceUnavailable):
    """The member has it and serves enough others now."""


class PeerClient:
    """Requests to other members."""

    def __init__(self, me: str, *, tls: Callable[[], ssl.SSLContext] | None) -> None:
        self._headers = {protocol.FROM_PEER_HEADER: "true", protocol.NODE_HEADER: me}
        self._tls = tls
        self._pools: dict[str, tuple[str, urllib3.HTTPConnectionPool]] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Give all connections back."""
        with self._lock:
            for _, pool in self._pools.values():
                pool.close()
            self._pools.clear()

    def get_document(self, member: Member, path: str) -> bytes:
        """A small answer, whole. Raises SourceError."""
        with self._response(member, path) as response:
            document = response.read(protocol.DOCUMENT_SIZE_MAX + 1)
            if len(document) > protocol.DOCUMENT_SIZE_MAX:
                raise SourceLied(f"sent more than {protocol.DOCUMENT_SIZE_MAX} bytes at {path}")
            return bytes(document)

    def get_chunk(self, member: Member, key: ContentKey, chunk: ByteRange, span: ByteRange, sink: Sink) -> None:
        """Put `span`, the end of `chunk` or all of it, into `sink`. Raises SourceError, and what the sink raises.

        The whole chunk is asked for even where its beginning is here already, because its checksum is over the whole.
        """
        headers = {"Range": f"bytes={chunk.start}-{chunk.stop - 1}"}
        with self._response(member, protocol.content_path(key), headers) as response:
            said = response.headers.get("Content-Range", "")
            if response.status != 206 or not said.startswith(f"bytes {chunk.start}-{chunk.stop - 1}/"):
                raise SourceLied(f"answered {response.status} {said!r} to {headers['Range']}")
            checksum = protocol.parse_content_digest(response.headers.get("Content-Digest"))
            if checksum is None:
                raise SourceLied("does not say what the chunk hashes to")
            sink.expect_checksum(checksum)
            position = chunk.start
            while position < chunk.stop:
                piece = response.read(min(PIECE_BYTES, chunk.stop - position))
                if not piece:
                    raise SourceUnavailable(f"ended {chunk.stop - position} bytes early")
                skip = max(0, span.start - position)
                if skip < len(piece):
                    sink.write(memoryview(piece)[skip:])
                position += len(piece)

    @contextmanager
    def _response(
        self, member: Member, path: str, headers: Mapping[str, str] | None = None
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """An answer of success; what can go wrong in it is translated. Its connection is kept when it was read to its end."""
        try:
            response = self._pool(member).request(
                "GET",
                path,
                headers={**self._headers, **(headers or {})},
                preload_content=False,
                decode_content=False,
                retries=False,
                redirect=False,
            )
            try:
                if response.status in (404, 503):
                    response.read(protocol.DOCUMENT_SIZE_MAX)
                    response.release_conn()
                    raise (Denied("does not have it after all") if response.status == 404 else Busy("is busy"))
                if response.status not in (200, 206):
                    raise SourceLied(f"answered {response.status}")
                yield response
                # What is left unread would be taken for the next answer on this connection.
                if response.read(1):
                    raise SourceLied("sent more than it was asked for")
            except (Denied, Busy):
                raise
            except BaseException:
                response.close()
                raise
            response.release_conn()
        except (HTTPError, OSError) as error:
            raise SourceUnavailable(str(error)) from error

    def _pool(self, member: Member) -> urllib3.HTTPConnectionPool:
        with self._lock:
            address, pool = self._pools.get(member.name, ("", None))
            if pool is None or address != member.peer_addr:
                if pool is not None:
                    pool.close()
                pool = self._connect(member)
                self._pools[member.name] = member.peer_addr, pool
            return pool

    def _connect(self, member: Member) -> urllib3.HTTPConnectionPool:
        host, _, port = member.peer_addr.rpartition(":")
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=STALL_SECONDS)
        if self._tls is None:
            return urllib3.HTTPConnectionPool(
                host.strip("[]"), int(port), timeout=timeout, maxsize=CONNECTIONS_PER_MEMBER
            )
        # The certificate must be that of the member that is meant, wherever it lives.
        name = f"{member.name}.peerd"
        return urllib3.HTTPSConnectionPool(
            host.strip("[]"),
            int(port),
            timeout=timeout,
            maxsize=CONNECTIONS_PER_MEMBER,
            ssl_context=self._tls(),
            assert_hostname=name,
            server_hostname=name,
        )
