"""Ranges of a content to an HTTP body.

Owns: the answer's head (200, 206, multipart). Success is answered only with the first bytes in hand.
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, contextmanager
from typing import Any, Literal, Protocol

from starlette.responses import Response

from app.content.byte_range import ByteRange
from app.content.descriptor import Slice
from app.content.library import Found, Readable
from app.content.passing import Passing
from app.content.source import SourceKind
from app.errors import PeerdError, Unobtainable
from app.observability.transfers import Transfer, Transfers
from app.routes.http_range import RequestedRange, content_range, resolve
from app.server.sendfile import BodyBrokenOff, ClientLeft, Send, Sender, send_slice

log = logging.getLogger(__name__)

CACHE_STATUS = {
    SourceKind.CACHE: "peerd; hit",
    SourceKind.CONTAINERD: "peerd; fwd=miss; detail=containerd",
    SourceKind.PEER: "peerd; fwd=miss; detail=peer",
    SourceKind.UPSTREAM: "peerd; fwd=miss; detail=upstream",
}


class ContentAnswer(Response):
    """A body that comes from slices of files.

    `parts` are what goes out in order: bytes of our own (the borders of a multipart body), or the slices of one range.
    `first` is the first slice of the first range, which is in hand. `life` is closed when the answer has ended.
    """

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        *,
        first: Slice | None,
        parts: Sequence[bytes | AsyncGenerator[Slice, None]],
        transfer: Transfer,
        transfers: Transfers,
        life: AsyncExitStack,
    ) -> None:
        super().__init__(status_code=status, headers=dict(headers))
        if "content-length" not in headers and "Content-Length" not in headers:
            del self.headers["content-length"]
        self._first = first
        self._parts = parts
        self._transfer = transfer
        self._transfers = transfers
        self._life = life

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
        """Send it. Raises BodyBrokenOff where the rest can not be had."""
        async with self._life:
            try:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                for part in self._parts:
                    if isinstance(part, bytes):
                        await send({"type": "http.response.body", "body": part, "more_body": True})
                        continue
                    if self._first is not None:
                        await self._send(self._first, send)
                        self._first = None
                    async for piece in part:
                        await self._send(piece, send)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            except (ClientLeft, BodyBrokenOff):
                raise
            except (PeerdError, OSError) as error:
                raise broken_off(self._transfer, error) from error

    async def _send(self, piece: Slice, send: Send) -> None:
        await send_slice(piece, send)
        self._transfers.sent(self._transfer, piece.kind, piece.count)


def broken_off(transfer: Transfer, error: Exception) -> BodyBrokenOff:
    """Tells of it, and is to be raised, where the rest of a body that was begun can not be had."""
    log.warning("answer %s broken off after %d bytes: %s", transfer.id, transfer.done, error)
    return BodyBrokenOff(str(error))


async def first_slice(
    slices: AsyncGenerator[Slice, None], progress: Callable[[], int | None], patience_seconds: float | None
) -> Slice | None:
    """The first bytes, waited for as long as something comes in. Raises Unobtainable when nothing does for that long.

    `progress` says None once there is no hurry any more: the first bytes went out another way.
    """
    if patience_seconds is None:
        return await anext(slices, None)
    try:
        async with asyncio.timeout(None) as limit:
            with _Patience(limit, progress, patience_seconds).extended():
                return await anext(slices, None)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise Unobtainable(f"no source made progress for {patience_seconds:g} s") from error


class _Patience:
    """Ends a limit when there was no progress for so long. Only where it has just looked: what a thread sends wakes nobody.

    An object, not a closure: one that refers to itself would keep the content's file open until the garbage collector comes by.
    """

    def __init__(self, limit: asyncio.Timeout, progress: Callable[[], int | None], seconds: float) -> None:
        self._limit = limit
        self._progress = progress
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._seen = progress()
        self._seen_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def extended(self) -> Iterator[None]:
        """Look again and again meanwhile."""
        self._look_again()
        try:
            yield
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _look_again(self) -> None:
        if self._limit.expired():  # In this very turn of the loop: the reader was cancelled, and will know next.
            return
        now, at = self._progress(), self._loop.time()
        if now is None:
            return
        if now != self._seen:
            self._seen, self._seen_at = now, at
        elif at >= self._seen_at + self._seconds:
            self._limit.reschedule(at)
            return
        self._timer = self._loop.call_later(self._seconds / 10, self._look_again)


class Library(Protocol):
    """What opens a content that was found."""

    def reading(self, found: Found, wanted: Sequence[ByteRange]) -> AbstractAsyncContextManager[Readable]:
        """See app.content.library."""


async def answer_with(
    found: Found,
    requested: Sequence[RequestedRange] | None,
    *,
    headers: dict[str, str],
    media_type: str,
    kind: Literal["blob", "file"],
    correlation_id: str,
    library: Library,
    transfers: Transfers,
    patience_seconds: float | None,
    outlet: Sender | None,
) -> Response:
    """What was found, or the ranges of it that were asked for. `headers` are those of every answer of it.

    Raises:
        PeerdError: not even the first byte can be had, or no range can be satisfied; nothing was sent.
    """
    async with AsyncExitStack() as stack:
        size, ranges = found.content.stat.size, None
        if requested is not None and size is not None:
            ranges = resolve(requested, size)
        readable = await stack.enter_async_context(library.reading(found, ranges or []))
        if requested is not None and isinstance(readable, Passing) and size is None:
            # Upstream says no length: it is read to its end to learn which bytes are meant.
            size = await readable.measured()
            ranges = resolve(requested, size)
        transfer = stack.enter_context(
            transfers.transfer(
                found.content.key.text,
                kind=kind,
                door="files" if kind == "file" else "mirror",
                total=size if ranges is None else sum(map(len, ranges)),
                correlation_id=correlation_id,
            )
        )
        return await _answer(
            readable,
            size=size,
            ranges=ranges,
            headers=headers,
            media_type=media_type,
            patience_seconds=patience_seconds,
            transfer=transfer,
            transfers=transfers,
            life=stack,
            outlet=outlet,
        )


async def _answer(
    readable: Readable,
    *,
    size: int | None,
    ranges: Sequence[ByteRange] | None,
    headers: dict[str, str],
    media_type: str,
    patience_seconds: float | None,
    transfer: Transfer,
    transfers: Transfers,
    life: AsyncExitStack,
    outlet: Sender | None,
) -> Response:
    """200, 206 or a multipart 206 for `ranges` of a content of `size` bytes; None where the size is not known.

    `life` holds what must live as long as the answer; it is taken over when there is one.

    Raises:
        PeerdError: not even the first byte can be had; nothing was sent.
    """
    wanted: Sequence[ByteRange | None] = _whole(size) if ranges is None else ranges
    generators = [await life.enter_async_context(aclosing(readable.slices(part, outlet))) for part in wanted]
    if outlet is not None:
        outlet.tell(lambda kind, count: transfers.sent(transfer, kind, count))
    first = await first_slice(generators[0], readable.progress, patience_seconds) if generators else None
    if first is not None:
        headers["Cache-Status"] = CACHE_STATUS[first.kind]
    parts: list[bytes | AsyncGenerator[Slice, None]] = list(generators)
    if ranges is not None and len(ranges) > 1 and size is not None:
        boundary = os.urandom(16).hex()
        headers["Content-Type"] = f"multipart/byteranges; boundary={boundary}"
        parts, length = _multipart(ranges, generators, boundary, media_type, size)
        headers["Content-Length"] = str(length)
    else:
        headers["Content-Type"] = media_type
        if ranges is not None:
            headers["Content-Range"] = content_range(ranges[0], size)
            headers["Content-Length"] = str(len(ranges[0]))
        elif size is not None:
            headers["Content-Length"] = str(size)
    status = 200 if ranges is None else 206
    return ContentAnswer(
        status, headers, first=first, parts=parts, transfer=transfer, transfers=transfers, life=life.pop_all()
    )


def _whole(size: int | None) -> list[ByteRange | None]:
    if size == 0:
        return []
    return [None if size is None else ByteRange(0, size)]


def _multipart(
    ranges: Sequence[ByteRange],
    generators: Sequence[AsyncGenerator[Slice, None]],
    boundary: str,
    media_type: str,
    size: int,
) -> tuple[list[bytes | AsyncGenerator[Slice, None]], int]:
    """The parts of a multipart/byteranges body (RFC 9110, section 14.6) and its length in bytes."""
    parts: list[bytes | AsyncGenerator[Slice, None]] = []
    length = 0
    for one, generator in zip(ranges, generators, strict=True):
        border = (
            f"--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {content_range(one, size)}\r\n\r\n".encode()
        )
        parts += [border, generator, b"\r\n"]
        length += len(border) + len(one) + 2
    end = f"--{boundary}--\r\n".encode()
    return [*parts, end], length + len(end)
