"""One content through a node, into a sink: checked, and gone on with at the same byte when the body breaks off.

Owns: resuming and verifying. The node already replaces a source that fails; what is resumed here is a body that the node
itself had to break off. Memory is one buffer, whatever the content's size.
"""

import http.client
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from app.client.node import Node, NodeRefused, NodeUnreachable
from app.content.digest import Digest
from app.errors import ContentChanged, DigestMismatch, PeerdError, Unobtainable

if TYPE_CHECKING:
    from hashlib import _Hash

_BUFFER_BYTES: Final = 256 * 1024
_IDLE_ATTEMPTS_MAX: Final = 5
"""Attempts in a row that bring no byte; one that brings any starts the count again."""
_PAUSE_SECONDS_MAX: Final = 10.0
_RESUMABLE: Final = frozenset({502, 503, 504})
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
CORRELATION_HEADER: Final = "X-MS-Peerd-CorrelationId"


class NotKept(PeerdError):
    """The bytes came, and could not be written where they should be kept."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be fetched: a target on the node's door, and what is known of the bytes behind it."""

    name: str
    target: str
    digest: Digest | None = None
    size: int | None = None
    accept: str | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was had: its size, and its digest (sha256 unless another was to be verified)."""

    wanted: Wanted
    size: int
    digest: Digest
    headers: http.client.HTTPMessage


class Sink(Protocol):
    """Takes the bytes of one content in order."""

    def write(self, data: memoryview, /) -> object:
        """Take the next bytes."""

    def restart(self) -> None:
        """Forget all bytes so far: the content begins again."""


class Watcher(Protocol):
    """Is told how a fetch goes on; called from the fetch's own thread."""

    def began(self, wanted: Wanted, correlation_id: str, size: int | None, source: str) -> None:
        """An answer's headers are there; `source` is what its `Cache-Status` names."""

    def received(self, wanted: Wanted, correlation_id: str, count: int) -> None:
        """`count` more bytes are there."""

    def resumed(self, wanted: Wanted, offset: int, reason: str) -> None:
        """The body broke off for `reason`, and is asked for again from `offset` on."""

    def ended(self, fetched: "Fetched") -> None:
        """All bytes are there and are right."""


def fetch(
    node: Node, wanted: Wanted, sink: Sink, watcher: Watcher, *, pause: Callable[[float], None] = time.sleep
) -> Fetched:
    """All bytes of `wanted`, written to `sink` in order.

    Raises:
        NodeUnreachable, NodeRefused: as Node.request, when trying again does not help.
        Unobtainable: the body broke off again and again without a byte more.
        ContentChanged: it became another while it was read, and again when it was begun anew.
        DigestMismatch: whole, and not what its digest says; the sink has the wrong bytes.
        NotKept: the sink could not write.
    """
    body = _Body(node, wanted, sink, watcher)
    idle = 0
    while True:
        before = body.offset
        try:
            body.go_on()
        except (OSError, http.client.HTTPException) as error:
            failure: PeerdError = Unobtainable(
                f"{wanted.name} broke off after {body.offset} bytes, {_IDLE_ATTEMPTS_MAX} times in a row: {error!r}"
            )
        except NodeUnreachable as error:
            if body.offset == 0:
                raise
            failure = error
        except NodeRefused as error:
            if error.status not in _RESUMABLE or (body.offset == 0 and error.retry_after_seconds is None):
                raise
            failure = error
        else:
            fetched = body.verified()
            watcher.ended(fetched)
            return fetched
        idle = 0 if body.offset > before else idle + 1
        if idle == _IDLE_ATTEMPTS_MAX:
            raise failure
        watcher.resumed(wanted, body.offset, str(failure))
        asked = failure.retry_after_seconds if isinstance(failure, NodeRefused) else None
        pause(min(_PAUSE_SECONDS_MAX, asked if asked is not None else 0.1 * 2**idle))


class _Body:
    """How far the content is, over all answers that brought parts of it."""

    def __init__(self, node: Node, wanted: Wanted, sink: Sink, watcher: Watcher) -> None:
        self.offset = 0
        self._node = node
        self._wanted = wanted
        self._sink = sink
        self._watcher = watcher
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._size = wanted.size
        self._etag: str | None = None
        self._restarts = 0
        self._hash = self._new_hash()
        self._headers = http.client.HTTPMessage()

    def go_on(self) -> None:
        """One request from `offset` on, to the end of the content; raises OSError or HTTPException when it breaks off."""
        correlation_id = uuid.uuid4().hex
        with self._node.request("GET", self._wanted.target, headers=self._request_headers(correlation_id)) as answer:
            self._place(answer)
            self._headers = answer.headers
            self._watcher.began(self._wanted, correlation_id, self._size, source_of(answer.headers))
            while count := answer.readinto(self._buffer):
                self._take(self._buffer[:count])
                self._watcher.received(self._wanted, correlation_id, count)
        if self._size is not None and self.offset < self._size:
            raise http.client.IncompleteRead(b"", self._size - self.offset)
        self._size = self.offset

    def verified(self) -> Fetched:
        """The whole; raises DigestMismatch when it is not what it should be."""
        algorithm = self._wanted.digest.algorithm if self._wanted.digest else "sha256"
        got = Digest(algorithm, self._hash.hexdigest())
        if self._wanted.digest not in (None, got):
            raise DigestMismatch(f"{self._wanted.name}: its {self.offset} bytes hash to {got}")
        return Fetched(self._wanted, self.offset, got, self._headers)

    def _request_headers(self, correlation_id: str) -> dict[str, str]:
        headers = {CORRELATION_HEADER: correlation_id, "Accept-Encoding": "identity"}
        if self._wanted.accept:
            headers["Accept"] = self._wanted.accept
        if self.offset:
            headers["Range"] = f"bytes={self.offset}-"
            if self._etag and not self._etag.startswith("W/"):
                headers["If-Range"] = self._etag
        return headers

    def _place(self, answer: http.client.HTTPResponse) -> None:
        """Where this answer's first byte belongs. A whole content in place of the rest means that it begins again."""
        if answer.status == 206:
            match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if (
                not match
                or int(match[1]) != self.offset
                or (match[3] != "*" and self._size not in (None, int(match[3])))
            ):
                raise http.client.HTTPException(
                    f"asked from byte {self.offset} on and was answered {answer.headers.get('Content-Range')!r}"
                )
            return
        if self.offset:
            self._restart()
        length = answer.headers.get("Content-Length")
        if length is not None:
            if self._wanted.size not in (None, int(length)):
                raise ContentChanged(f"{self._wanted.name} has {length} bytes, not the {self._wanted.size} expected")
            self._size = int(length)
        self._etag = answer.headers.get("ETag")

    def _restart(self) -> None:
        self._restarts += 1
        if self._restarts > 2:
            raise ContentChanged(f"{self._wanted.name} changes while it is read; it was begun {self._restarts} times")
        self.offset, self._size, self._hash = 0, self._wanted.size, self._new_hash()
        self._sink.restart()

    def _new_hash(self) -> "_Hash":
        return self._wanted.digest.hasher() if self._wanted.digest else Digest.of(b"").hasher()

    def _take(self, data: memoryview) -> None:
        if self._size is not None and self.offset + len(data) > self._size:
            raise ContentChanged(f"{self._wanted.name} goes on after its {self._size} bytes")
        self._hash.update(data)
        try:
            self._sink.write(data)
        except OSError as error:  # not the network's, so not to be resumed
            raise NotKept(f"{self._wanted.name} can not be written after {self.offset} bytes: {error}") from error
        self.offset += len(data)


def source_of(headers: http.client.HTTPMessage) -> str:
    """Who gave the first byte, from `Cache-Status` (RFC 9211): `cache`, `containerd`, `peer`, `upstream`, else `unknown`."""
    for member in headers.get("Cache-Status", "").split(","):
        cache, *parameters = (part.strip() for part in member.split(";"))
        if cache == "peerd":
            if "hit" in parameters:
                return "cache"
            return next((p.partition("=")[2].strip('"') for p in parameters if p.startswith("detail=")), "unknown")
    return "unknown"
