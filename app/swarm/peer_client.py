"""The asking side of the peer door: kept connections to members, over mutual TLS. Blocking, for threads.

Owns: connections, and what of an answer is believed. Knows nothing of whom to ask; that is `peers` and `ranking`.
"""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import urllib3
from urllib3.exceptions import HTTPError

from app.content.byte_range import ByteRange
from app.content.key import ContentKey
from app.content.source import Sink
from app.errors import SourceLied, SourceUnavailable
from app.server.certificates import Certificates
from app.swarm import protocol
from app.swarm.asking import Answer
from app.swarm.knowledge import read_bits
from peerd_gossip import Member

CONNECT_SECONDS = 1.0
DOCUMENT_SECONDS = 1.0
"""How long a member may take to say what it knows of a content or a name."""

SILENCE_SECONDS = 3.0
"""After so long without a byte a thread gives its connection up. Whoever asked for a chunk has left it before (`hedging`)."""

ORDER_SECONDS = 5.0
"""How long a member may take to answer an order: it may have to read all its manifests first."""

QUESTION_SECONDS = 2.0
"""How long a member may take to ask upstream in our place, before this node asks by itself."""

MANIFEST_SIZE_MAX = (4 << 20) + 256
"""Bytes: a manifest, and its media type before it."""

CONNECTIONS_PER_MEMBER = 8
PIECE_BYTES = 64 << 10

IN_BUFFERS_BYTES = 24 << 10
"""At most so much of a body is neither in the socket nor handed over: a record of TLS, and what was read with the head."""


_ANSWERS = {202: Answer.COMING, 404: Answer.LACKS, 409: Answer.LEASE, 423: Answer.TAKEN, 503: Answer.BUSY}


@dataclass(frozen=True, slots=True)
class Told:
    """What a member says of itself with each answer; None and 0 where it does not.

    Attributes:
        chunks: which chunks of the content it has.
        uploads: how many chunks it is sending, or is about to.
        received: how many bytes of the content it has, where it is fetching the chunk.
    """

    chunks: int | None
    uploads: int | None
    received: int


class Declined(SourceUnavailable):
    """The member answered, and not with the chunk.

    Attributes:
        answer: what it said instead.
        alternates: members that a busy one named.
        told: what it said of itself.
    """

    def __init__(self, answer: Answer, alternates: Sequence[str], told: Told) -> None:
        super().__init__(f"answered that it is {answer.value}")
        self.answer = answer
        self.alternates = alternates
        self.told = told


class PeerClient:
    """Requests to other members."""

    def __init__(self, me: str, certificates: Certificates | None) -> None:
        self._headers = {protocol.FROM_PEER_HEADER: "true", protocol.NODE_HEADER: me}
        self._certificates = certificates
        self._pools: dict[str, tuple[tuple[str, int], urllib3.HTTPConnectionPool]] = {}
        self._answers: set[urllib3.BaseHTTPResponse] = set()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Give all connections back; threads that read from one are woken, so that none outlives the node."""
        with self._lock:
            for response in self._answers:
                _hang_up(response)
            for _, pool in self._pools.values():
                pool.close()
            self._pools.clear()

    def get_document(self, member: Member, path: str) -> bytes:
        """A small answer, whole. Raises SourceError."""
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=DOCUMENT_SECONDS)
        with self._response(member, path, timeout=timeout) as response:
            return _document(response, path)

    def post_order(self, member: Member, path: str, order: bytes) -> bytes:
        """A small answer to an order. Raises SourceError."""
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=ORDER_SECONDS)
        headers = {"Content-Type": "application/json"}
        with self._response(member, path, headers, method="POST", body=order, timeout=timeout) as response:
            return _document(response, path)

    def post_question(self, member: Member, path: str, question: bytes) -> bytes:
        """The answer to a question that the member may have to ask upstream for. Raises SourceError."""
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=QUESTION_SECONDS)
        headers = {"Content-Type": "application/json"}
        with self._response(member, path, headers, method="POST", body=question, timeout=timeout) as response:
            return _document(response, path, MANIFEST_SIZE_MAX)

    def get_chunk(
        self,
        member: Member,
        key: ContentKey,
        chunk: ByteRange,
        span: ByteRange,
        sink: Sink,
        lease_without: frozenset[str] | None = None,
    ) -> Told:
        """Put `span`, the end of `chunk` or all of it, into `sink`; of the chunk's home with `lease_without`.

        The whole chunk is asked for even where its beginning is here already, because its checksum is over the whole.

        Returns what the member said of itself. Raises Declined, SourceError, and what the sink raises.
        """
        headers = {"Range": f"bytes={chunk.start}-{chunk.stop - 1}"}
        path, method, body = protocol.content_path(key), "GET", None
        if lease_without is not None:
            path, method = protocol.lease_path(key), "POST"
            body = json.dumps({"without": sorted(lease_without)}).encode()
        with self._response(member, path, headers, method=method, body=body) as response:
            said = response.headers.get("Content-Range", "")
            if response.status != 206 or not said.startswith(f"bytes {chunk.start}-{chunk.stop - 1}/"):
                raise SourceLied(f"answered {response.status} {said!r} to {headers['Range']}")
            checksum = protocol.parse_content_digest(response.headers.get("Content-Digest"))
            if checksum is None:
                raise SourceLied("does not say what the chunk hashes to")
            sink.expect_checksum(checksum)
            position = chunk.start
            for piece in _pieces(response, len(chunk)):
                skip = max(0, span.start - position)
                if skip < len(piece):
                    sink.write(memoryview(piece)[skip:])
                position += len(piece)
            return _told(response)

    @contextmanager
    def _response(
        self,
        member: Member,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        body: bytes | None = None,
        timeout: urllib3.Timeout | None = None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """An answer of success; what can go wrong in it is translated. Its connection is kept when it was read to its end."""
        try:
            pool = self._pool(member)
            response = pool.request(
                method,
                path,
                body=body,
                headers={**self._headers, **(headers or {})},
                timeout=timeout or pool.timeout,
                preload_content=False,
                decode_content=False,
                retries=False,
                redirect=False,
            )
            with self._lock:
                self._answers.add(response)
            try:
                if response.status in _ANSWERS:
                    response.read(protocol.DOCUMENT_SIZE_MAX)
                    response.release_conn()
                    alternates = response.headers.get(protocol.ALTERNATES_HEADER, "")
                    raise Declined(
                        _ANSWERS[response.status], alternates.split(",") if alternates else (), _told(response)
                    )
                if response.status not in (200, 206):
                    raise SourceLied(f"answered {response.status}")
                yield response
                # What is left unread would be taken for the next answer on this connection.
                if response.read(1):
                    raise SourceLied("sent more than it was asked for")
            except Declined:
                raise
            except BaseException:
                response.close()
                raise
            finally:
                with self._lock:
                    self._answers.discard(response)
            response.release_conn()
        except (HTTPError, OSError) as error:
            raise SourceUnavailable(str(error)) from error

    def _pool(self, member: Member) -> urllib3.HTTPConnectionPool:
        """Connections to a member where it lives now, made with the certificates that are used now."""
        context = self._certificates.client() if self._certificates is not None else None
        made_with = member.peer_addr, self._certificates.generation if self._certificates is not None else 0
        with self._lock:
            known, pool = self._pools.get(member.name, (None, None))
            if pool is None or known != made_with:
                if pool is not None:
                    pool.close()
                pool = self._connect(member, context)
                self._pools[member.name] = made_with, pool
            return pool

    @staticmethod
    def _connect(member: Member, context: ssl.SSLContext | None) -> urllib3.HTTPConnectionPool:
        host, _, port = member.peer_addr.rpartition(":")
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=SILENCE_SECONDS)
        if context is None:
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
            ssl_context=context,
            assert_hostname=name,
            server_hostname=name,
        )


def _pieces(response: urllib3.BaseHTTPResponse, size: int) -> Iterator[bytes]:
    """A body of `size` bytes. Raises SourceUnavailable where it ends before.

    On a slow line bytes come a few thousand at a time, and to wake up for each of them costs more than what is done with them.
    So the thread is woken when a piece is there (SO_RCVLOWAT, socket(7)); never for more than is still to come.
    """
    sock, wake_at = _socket(response), 1
    while size:
        piece_bytes = min(PIECE_BYTES, size)
        # In the middle of this piece, with all but its last byte read.
        to_come = size - piece_bytes - IN_BUFFERS_BYTES
        if sock is not None and (now := max(1, min(PIECE_BYTES, to_come))) != wake_at:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, now)
            wake_at = now
        piece = response.read(piece_bytes)
        if not piece:
            raise SourceUnavailable(f"ended {size} bytes early")
        yield piece
        size -= len(piece)


def _socket(response: urllib3.BaseHTTPResponse) -> socket.socket | None:
    """What an answer comes from; None once its connection is closed."""
    return getattr(response.connection, "sock", None)


def _hang_up(response: urllib3.BaseHTTPResponse) -> None:
    """Wake the thread that reads an answer. Called from the loop."""
    sock = _socket(response)
    if sock is not None:
        # Not SSLSocket's own: it forgets the TLS state first, and the thread would read ciphertext as if it were the body.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _told(response: urllib3.BaseHTTPResponse) -> Told:
    """What the member says of itself; a header that can not be read is as good as none."""
    try:
        chunks = read_bits(response.headers[protocol.CHUNKS_HEADER])
    except (KeyError, ValueError):
        chunks = None
    uploads, received = (
        _count(response.headers.get(name)) for name in (protocol.UPLOADS_HEADER, protocol.RECEIVED_HEADER)
    )
    return Told(chunks, uploads, received or 0)


def _count(header: str | None) -> int | None:
    return int(header) if header is not None and header.isdecimal() and len(header) < 20 else None


def _document(response: urllib3.BaseHTTPResponse, path: str, size_max: int = protocol.DOCUMENT_SIZE_MAX) -> bytes:
    document = response.read(size_max + 1)
    if len(document) > size_max:
        raise SourceLied(f"sent more than {size_max} bytes at {path}")
    return bytes(document)
