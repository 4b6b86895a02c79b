"""The asking side of the peer door: kept connections to members, over mutual TLS. Blocking, for threads.

Owns: connections, and what of an answer is believed. Knows nothing of whom to ask; that is `peers` and `ranking`.
"""

import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from app.content.byte_range import ByteRange
from app.content.key import ContentKey
from app.content.source import Sink
from app.errors import SourceLied, SourceUnavailable
from app.http1 import Response
from app.server.certificates import Certificates
from app.swarm import protocol
from app.swarm.asking import Answer
from app.swarm.connections import Connections
from app.swarm.knowledge import read_bits
from peerd_gossip import Member

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

PIECE_BYTES = 64 << 10
"""What a thread is woken for."""

WRITTEN_BYTES = 256 << 10
"""What is hashed and written at once."""

IN_BUFFERS_BYTES = 24 << 10
"""At most so much of a body is neither in the socket nor handed over: a record of TLS, and what was read with the head."""


_JSON = {"Content-Type": "application/json"}
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


class ChunkSink(Sink, Protocol):
    """A sink that is told of bytes before it is given them, many at a time."""

    def came(self, count: int) -> None:
        """So many more have come from the member. Raises Abandoned."""


class PeerClient:
    """Requests to other members."""

    def __init__(self, me: str, certificates: Certificates | None) -> None:
        self._headers = {protocol.FROM_PEER_HEADER: "true", protocol.NODE_HEADER: me}
        self._connections = Connections(certificates)
        self._of_thread = threading.local()

    def close(self) -> None:
        """Give all connections back; threads that read from one are woken, so that none outlives the node."""
        self._connections.close()

    def get_document(self, member: Member, path: str) -> bytes:
        """A small answer, whole. Raises SourceError."""
        with self._answer(member, path, silence_seconds=DOCUMENT_SECONDS) as (response, _):
            return _document(response, path)

    def post_order(self, member: Member, path: str, order: bytes) -> bytes:
        """A small answer to an order. Raises SourceError."""
        with self._answer(member, path, _JSON, body=order, silence_seconds=ORDER_SECONDS) as (response, _):
            return _document(response, path)

    def post_question(self, member: Member, path: str, question: bytes) -> bytes:
        """The answer to a question that the member may have to ask upstream for. Raises SourceError."""
        with self._answer(member, path, _JSON, body=question, silence_seconds=QUESTION_SECONDS) as (response, _):
            return _document(response, path, MANIFEST_SIZE_MAX)

    def get_chunk(
        self,
        member: Member,
        key: ContentKey,
        chunk: ByteRange,
        span: ByteRange,
        sink: ChunkSink,
        lease_without: frozenset[str] | None = None,
    ) -> Told:
        """Put `span`, the end of `chunk` or all of it, into `sink`; of the chunk's home with `lease_without`.

        The whole chunk is asked for even where its beginning is here already, because its checksum is over the whole.

        Returns what the member said of itself. Raises Declined, SourceError, and what the sink raises.
        """
        headers = {"Range": f"bytes={chunk.start}-{chunk.stop - 1}"}
        path, body = protocol.content_path(key), None
        if lease_without is not None:
            path = protocol.lease_path(key)
            body = json.dumps({"without": sorted(lease_without)}).encode()
        with self._answer(member, path, headers, body=body, silence_seconds=SILENCE_SECONDS) as (response, sock):
            said = response.headers.get("Content-Range", "")
            if response.status != 206 or not said.startswith(f"bytes {chunk.start}-{chunk.stop - 1}/"):
                raise SourceLied(f"answered {response.status} {said!r} to {headers['Range']}")
            checksum = protocol.parse_content_digest(response.headers.get("Content-Digest"))
            if checksum is None:
                raise SourceLied("does not say what the chunk hashes to")
            sink.expect_checksum(checksum)
            self._receive(response, sock, len(chunk), span.start - chunk.start, sink)
            return _told(response)

    def _receive(self, response: Response, sock: socket.socket, size: int, skip: int, sink: ChunkSink) -> None:
        """A body of `size` bytes into the sink, all but its first `skip`. Raises SourceUnavailable where it ends before."""
        buffer = self._buffer()
        position, pieces = 0, _Pieces(response, sock, size)
        while position < size:
            count = min(len(buffer), size - position)
            for start in range(0, count, PIECE_BYTES):
                piece = buffer[start : min(start + PIECE_BYTES, count)]
                pieces.read(piece)
                sink.came(len(piece))
            if (begin := max(0, skip - position)) < count:
                sink.write(buffer[begin:count])
            position += count

    def _buffer(self) -> memoryview:
        """This thread's own."""
        buffer: memoryview | None = getattr(self._of_thread, "buffer", None)
        if buffer is None:
            buffer = self._of_thread.buffer = memoryview(bytearray(WRITTEN_BYTES))
        return buffer

    @contextmanager
    def _answer(
        self,
        member: Member,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        body: bytes | None = None,
        silence_seconds: float,
    ) -> Iterator[tuple[Response, socket.socket]]:
        """An answer of success, to be read to its end, and what it comes from; with a body the request is a POST.

        Raises Declined for another that the protocol knows, SourceLied for one that it does not, SourceUnavailable.
        """
        declined: Declined | None = None
        with self._connections.answer(
            member,
            "GET" if body is None else "POST",
            path,
            body=body,
            headers={**self._headers, **(headers or {})},
            silence_seconds=silence_seconds,
        ) as (response, sock):
            if response.status in _ANSWERS:
                response.read(protocol.DOCUMENT_SIZE_MAX)
                alternates = response.headers.get(protocol.ALTERNATES_HEADER, "")
                declined = Declined(
                    _ANSWERS[response.status], alternates.split(",") if alternates else (), _told(response)
                )
            elif response.status not in (200, 206):
                raise SourceLied(f"answered {response.status}")
            else:
                yield response, sock
                if response.read(1):
                    raise SourceLied("sent more than it was asked for")
        if declined is not None:
            raise declined


class _Pieces:
    """A body of `size` bytes, of which a thread is woken for a piece, not for each packet.

    On a slow line bytes come a few thousand at a time, and to wake up for each of them costs more than what is done with them. So the
    socket is readable when a piece is there (SO_RCVLOWAT, socket(7)); never only when more is there than is still to come.
    """

    def __init__(self, response: Response, sock: socket.socket, size: int) -> None:
        self._response = response
        self._socket = sock
        self._left = size
        self._wake_at = 1

    def read(self, piece: memoryview) -> None:
        """Fill it, with no more than is left. Raises SourceUnavailable where the body ends before."""
        # In the middle of this piece, with all but its last byte read.
        to_come = self._left - len(piece) - IN_BUFFERS_BYTES
        if (wake_at := max(1, min(PIECE_BYTES, to_come))) != self._wake_at:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wake_at)
            self._wake_at = wake_at
        while piece:
            got = self._response.readinto(piece)
            if not got:
                raise SourceUnavailable(f"ended {self._left} bytes early")
            self._left -= got
            piece = piece[got:]


def _told(response: Response) -> Told:
    """What the member says of itself; a header that can not be read is as good as none."""
    try:
        chunks = read_bits(response.headers.get(protocol.CHUNKS_HEADER, ""))
    except ValueError:
        chunks = None
    uploads, received = (
        _count(response.headers.get(name)) for name in (protocol.UPLOADS_HEADER, protocol.RECEIVED_HEADER)
    )
    return Told(chunks, uploads, received or 0)


def _count(header: str | None) -> int | None:
    return int(header) if header is not None and header.isdecimal() and len(header) < 20 else None


def _document(response: Response, path: str, size_max: int = protocol.DOCUMENT_SIZE_MAX) -> bytes:
    document = response.read(size_max + 1)
    if len(document) > size_max:
        raise SourceLied(f"sent more than {size_max} bytes at {path}")
    if response.length:  # So many are still to come, and do not.
        raise SourceUnavailable(f"ended {response.length} bytes early")
    return document
