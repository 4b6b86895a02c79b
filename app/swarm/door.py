"""The answering side of the peer door: what this node holds, to other members, and as a home who may fetch. See `protocol`.

Chunks are answered from the cache and containerd's store only: no request makes this node ask upstream or another member. As a
chunk's home it says whose turn it is. Orders and questions for names are answered in `order_door` and `delegate`.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from app.content.byte_range import ByteRange
from app.content.cache import ChunkCache
from app.content.descriptor import Slice
from app.content.entry import Entry
from app.content.flight import Flights
from app.content.hashing import hash_of
from app.content.json_text import parsed
from app.content.key import ContentKey
from app.content.names import Name, Resolution
from app.content.resolver import Resolver
from app.content.source import Content, SourceKind, Stat
from app.content.threads import Threads
from app.observability.metrics import Metrics
from app.server.sendfile import HEAD, BodyBrokenOff, send_slice
from app.swarm import protocol
from app.swarm.admission import SENDING_AT_ONCE, Admission
from app.swarm.asking import COMING_SECONDS
from app.swarm.knowledge import write_bits
from app.swarm.leases import Leases, Leave, Taken

log = logging.getLogger(__name__)

_CONTENTS = "/contents/"
_NODE = protocol.NODE_HEADER.lower().encode()

TAKE_SECONDS, TAKE_BYTES = 5.0, 1 << 20
"""A member that does not take so many bytes within so long is cut off: it may be gone, and others wait for its place.

What it takes is seen in steps, as buffers become free: one that takes twice as many is safe.
"""


class Store(Protocol):
    """What is needed of containerd's store, where its bytes can be had through its API only."""

    async def entry(self, key: ContentKey) -> Entry | None:
        """The content, with what its chunks must hash to; None where containerd does not share it."""

    def remembered(self, name: Name) -> Resolution | None:
        """What a tag stands for, as containerd has it."""


class PeerDoor:
    """The ASGI application behind `--peer-addr`."""

    def __init__(
        self,
        cache: ChunkCache,
        flights: Flights,
        resolver: Resolver,
        *,
        admission: Admission,
        leases: Leases,
        threads: Threads,
        metrics: Metrics,
        zone_of: Callable[[str], str | None],
        zone: str,
        store: Store | None = None,
        more: Sequence[Route] = (),
    ) -> None:
        self._store = store
        self._cache = cache
        self._flights = flights
        self._resolver = resolver
        self._admission = admission
        self._leases = leases
        self._threads = threads
        self._metrics = metrics
        self._zone_of = zone_of
        self._zone = zone
        self._sending = asyncio.Semaphore(SENDING_AT_ONCE)
        self._routes = Router(
            routes=[
                Route("/contents/{key}/lease", self._lease, methods=["POST"]),
                Route("/contents/{key}/stat", self._get_stat),
                Route("/names/{identity}", self._get_name),
                *more,
            ]
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request. Chunks are asked for a thousand times as often as all the rest: past routes, and what those make of a request."""
        key = scope["path"].removeprefix(_CONTENTS) if scope["type"] == "http" and scope["method"] == "GET" else "/"
        if "/" in key:
            await self._routes(scope, receive, send)
            return
        asked = dict(reversed(scope["headers"]))  # Of two of one name the first counts, as everywhere.
        span, asker = (asked.get(name, b"").decode("latin-1") for name in (b"range", _NODE))
        answer = await self._get_chunk(key, span, asker)
        await answer(scope, receive, send)

    def _entry(self, key: str) -> Entry | None:
        """What is held under a key; what was proved is as good as what only claims to be the same."""
        entry = self._cache.get(ContentKey(key))
        if entry is None and "@" in key:
            entry = self._cache.get(ContentKey(key.partition("@")[0]))
        return entry

    async def _get_stat(self, request: Request) -> Response:
        entry = self._entry(request.path_params["key"])
        if entry is None:
            return Response(status_code=404)
        return Response(protocol.write_stat(entry.meta.size, entry.meta.media_type), media_type="application/json")

    async def _get_name(self, request: Request) -> Response:
        name = Name(request.path_params["identity"])
        known = self._resolver.remembered(name)
        if known is None and self._store is not None:
            known = self._store.remembered(name)
        return Response(status_code=404) if known is None else Response(known.to_json(), media_type="application/json")

    async def _get_chunk(self, key: str, range_: str, asker: str) -> "Response | _ChunkAnswer":
        entry = self._entry(key)
        span = _one_range(range_)
        if entry is None or (span is not None and span.stop <= entry.meta.size and not _has(entry, span)):
            try:
                entry = await self._through_api(key) or entry
            except TimeoutError:
                return Response(status_code=202)
        if entry is None:
            return Response(status_code=404)
        if span is None or span.stop > entry.meta.size or len(span) > protocol.CHUNK_SIZE_MAX:
            return Response(status_code=416)
        if not _has(entry, span):
            if entry.meta.source == "containerd":
                self._bring(entry, span)
            if self._is_fetching(entry, span):
                return self._decline(202, entry, span.start)
        return await self._answer(asker, entry, span)

    def _bring(self, entry: Entry, span: ByteRange) -> None:
        """Have chunks that containerd holds come through its API."""
        meta = entry.meta
        content = Content(meta.key, meta.digest, meta.size, Stat(meta.size, None, meta.media_type), None)
        for index in span.chunks(meta.chunk_size):
            if not entry.has(index):
                self._flights.join(content, entry, index)

    async def _through_api(self, key: str) -> Entry | None:
        if self._store is None:
            return None
        async with asyncio.timeout(COMING_SECONDS):
            return await self._store.entry(ContentKey(key))

    async def _lease(self, request: Request) -> "Response | _ChunkAnswer":
        """This node is a chunk's home: it gives the chunk, or leave to fetch it, or says who has leave."""
        key, span = request.path_params["key"], _one_range(request.headers.get("Range"))
        try:
            without = parsed(await protocol.read_body(request.stream()))["without"]
        except (ValueError, KeyError, TypeError) as error:
            return Response(f"not a request for leave: {error!r}", 400)
        if span is None or not isinstance(without, list):
            return Response(status_code=400)
        asker = request.headers.get(protocol.NODE_HEADER, "")
        entry = self._entry(key)
        if entry is not None and span.stop <= entry.meta.size:
            if _has(entry, span):
                return await self._answer(asker, entry, span)
            if self._is_fetching(entry, span):
                return self._decline(202, entry, span.start)
        match self._leases.ask(
            protocol.common_name(key),
            span.start,
            asker,
            same_zone=self._zone_of(asker) == self._zone,
            without=frozenset(filter(None, map(str, without))),
        ):
            case Taken(lessee):
                return self._decline(423, entry, span.start, [lessee])
            case Leave(ahead):
                return self._decline(409, entry, span.start, [ahead] if ahead else [])

    def _is_fetching(self, entry: Entry, span: ByteRange) -> bool:
        pending = self._flights.pending(entry)
        return any(pending >> index & 1 for index in span.chunks(entry.meta.chunk_size))

    async def _answer(self, asker: str, entry: Entry, span: ByteRange) -> "Response | _ChunkAnswer":
        """A chunk that should be here."""
        chunks = span.chunks(entry.meta.chunk_size)
        name = protocol.common_name(entry.meta.key.text)
        try:
            async with asyncio.timeout(COMING_SECONDS):
                for index in chunks:
                    if not await self._cache.check(entry, index):
                        return self._decline(404, entry, span.start)
        except TimeoutError:  # containerd's blob is read whole before its first chunk is given out.
            return self._decline(202, entry, span.start)
        if not self._admission.admit(len(span)):
            return self._decline(503, entry, span.start, self._admission.alternates(name, chunks.start, asker))
        try:
            with entry.pinned(chunks.start, chunks.stop):
                part = Slice(entry.file(), span.start, len(span), SourceKind.CACHE)
                checksum = entry.checksum(chunks.start)
                if span != entry.span(chunks.start):  # A member whose chunks are of another size.
                    checksum = await self._threads.disk(hash_of, part.file.fileno(), span)
            if checksum is None:
                raise FileNotFoundError(f"chunk {chunks.start} of {entry.meta.key} went away")
        except OSError as error:
            log.warning("%s", error)
            self._admission.ended()
            return self._decline(404, entry, span.start)
        lines = (
            f"content-type: application/octet-stream\r\ncontent-length: {len(span)}\r\n"
            f"content-range: bytes {span.start}-{span.stop - 1}/{entry.meta.size}\r\n"
            f"content-digest: {protocol.content_digest(checksum)}\r\n"
            f"{protocol.CHUNKS_HEADER}: {write_bits(entry.bits, entry.meta.chunks, chunks.start)}\r\n"
            f"{protocol.UPLOADS_HEADER}: {self._admission.under_way}\r\n"
        )
        return _ChunkAnswer(self, entry, chunks, part, lines.encode("ascii"), asker)

    def _decline(self, status: int, entry: Entry | None, start: int, alternates: Sequence[str] = ()) -> Response:
        headers = {protocol.UPLOADS_HEADER: str(self._admission.under_way)}
        if entry is not None:
            if status == 202:
                headers[protocol.RECEIVED_HEADER] = str(self._flights.progress(entry))
            chunk = start // entry.meta.chunk_size
            headers[protocol.CHUNKS_HEADER] = write_bits(entry.bits, entry.meta.chunks, chunk)
        if alternates:
            headers[protocol.ALTERNATES_HEADER] = ",".join(alternates)
        return Response(status_code=status, headers=headers)

    async def send(self, answer: "_ChunkAnswer", send: Any) -> None:
        """Send a chunk that was admitted, when its turn has come."""
        entry, chunks, part = answer.entry, answer.chunks, answer.part
        try:
            async with self._sending, asyncio.timeout(TAKE_SECONDS) as limit:
                with entry.pinned(chunks.start, chunks.stop):
                    await send({"type": HEAD, "status": 206, "lines": answer.lines, "count": part.count})
                    for offset in range(0, part.count, TAKE_BYTES):
                        if offset:
                            limit.reschedule(asyncio.get_running_loop().time() + TAKE_SECONDS)
                        count = min(TAKE_BYTES, part.count - offset)
                        await send_slice(Slice(part.file, part.offset + offset, count, part.kind), send)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError as error:
            raise BodyBrokenOff(f"{answer.asker} takes chunk {chunks.start} of {entry.meta.key} too slowly") from error
        finally:
            self._admission.ended()
        self._admission.gave(protocol.common_name(entry.meta.key.text), chunks.start, answer.asker)
        self._metrics.uploaded.inc(part.count)
        if self._zone_of(answer.asker) != self._zone:
            self._metrics.cross_zone_bytes.labels("sent").inc(part.count)


@dataclass(frozen=True, slots=True)
class _ChunkAnswer:
    """One chunk, as an ASGI application. `lines` are those of its head."""

    door: PeerDoor
    entry: Entry
    chunks: range
    part: Slice
    lines: bytes
    asker: str

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
        await self.door.send(self, send)


def _has(entry: Entry, span: ByteRange) -> bool:
    return all(map(entry.has, span.chunks(entry.meta.chunk_size)))


def _one_range(header: str | None) -> ByteRange | None:
    """Members ask for `bytes=a-b` and nothing else."""
    first, dash, last = (header or "").removeprefix("bytes=").partition("-")
    if not dash or not first.isdecimal() or not last.isdecimal() or int(last) < int(first):
        return None
    return ByteRange(int(first), int(last) + 1)
