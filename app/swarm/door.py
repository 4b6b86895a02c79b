"""The answering side of the peer door: what this node holds, to other members. See `protocol`.

Answers from the cache only and asks nobody on, so no request travels further than one hop.
"""

import logging
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.content.byte_range import ByteRange
from app.content.cache import ChunkCache, hash_of
from app.content.descriptor import Slice
from app.content.entry import Entry
from app.content.key import ContentKey
from app.content.names import Name
from app.content.resolver import Resolver
from app.content.source import SourceKind
from app.content.threads import Threads
from app.observability.metrics import Metrics
from app.server.slices import offers_zerocopy, send_slice
from app.swarm import protocol

log = logging.getLogger(__name__)


class PeerDoor:
    """The ASGI application behind `--peer-addr`."""

    def __init__(
        self,
        cache: ChunkCache,
        resolver: Resolver,
        *,
        threads: Threads,
        metrics: Metrics,
        max_uploads: int,
        zone_of: Callable[[str], str | None],
        zone: str,
    ) -> None:
        self._cache = cache
        self._resolver = resolver
        self._threads = threads
        self._metrics = metrics
        self._max_uploads = max_uploads
        self._zone_of = zone_of
        self._zone = zone
        self._uploads = 0
        self.app = Starlette(
            routes=[
                Route("/contents/{key}", self._get_chunk),
                Route("/contents/{key}/stat", self._get_stat),
                Route("/names/{identity}", self._get_name),
            ]
        )

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
        known = self._resolver.remembered(Name(request.path_params["identity"]))
        return Response(status_code=404) if known is None else Response(known.to_json(), media_type="application/json")

    async def _get_chunk(self, request: Request) -> Response:
        entry = self._entry(request.path_params["key"])
        span = _one_range(request.headers.get("Range"))
        if entry is None:
            return Response(status_code=404)
        if span is None or span.stop > entry.meta.size or len(span) > protocol.CHUNK_SIZE_MAX:
            return Response(status_code=416)
        if self._uploads >= self._max_uploads:
            return Response(status_code=503, headers={"Retry-After": "1"})
        chunks = span.chunks(entry.meta.chunk_size)
        for index in chunks:
            if not await self._cache.check(entry, index):
                return Response(status_code=404)
        with entry.pinned(chunks.start, chunks.stop):
            part = Slice(entry.file(), span.start, len(span), SourceKind.CACHE)
            checksum = entry.checksum(chunks.start)
            if span != entry.span(chunks.start):  # A member whose chunks are of another size.
                checksum = await self._threads.disk(hash_of, part.file.fileno(), span)
        if checksum is None:
            return Response(status_code=404)
        headers = {
            "Content-Length": str(len(span)),
            "Content-Range": f"bytes {span.start}-{span.stop - 1}/{entry.meta.size}",
            "Content-Digest": protocol.content_digest(checksum),
        }
        asker = request.headers.get(protocol.NODE_HEADER, "")
        return _ChunkAnswer(self, entry, chunks, part, headers, crosses_zone=self._zone_of(asker) != self._zone)

    def sent(self, count: int, *, crosses_zone: bool) -> None:
        """Bytes went out to a member."""
        self._metrics.uploaded.inc(count)
        if crosses_zone:
            self._metrics.cross_zone_bytes.labels("sent").inc(count)

    def begin(self) -> None:
        """One more upload is under way."""
        self._uploads += 1

    def end(self) -> None:
        """It has ended."""
        self._uploads -= 1


class _ChunkAnswer(Response):
    """One chunk, pinned while it is sent."""

    def __init__(
        self, door: PeerDoor, entry: Entry, chunks: range, part: Slice, headers: dict[str, str], *, crosses_zone: bool
    ) -> None:
        super().__init__(status_code=206, headers=headers, media_type="application/octet-stream")
        self._door = door
        self._entry = entry
        self._chunks = chunks
        self._part = part
        self._crosses_zone = crosses_zone

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        self._door.begin()
        try:
            with self._entry.pinned(self._chunks.start, self._chunks.stop):
                await send({"type": "http.response.start", "status": 206, "headers": self.raw_headers})
                await send_slice(self._part, send, zerocopy=offers_zerocopy(scope))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            self._door.sent(self._part.count, crosses_zone=self._crosses_zone)
        finally:
            self._door.end()


def _one_range(header: str | None) -> ByteRange | None:
    """Members ask for `bytes=a-b` and nothing else."""
    first, dash, last = (header or "").removeprefix("bytes=").partition("-")
    if not dash or not first.isdecimal() or not last.isdecimal() or int(last) < int(first):
        return None
    return ByteRange(int(first), int(last) + 1)
