"""A slice of a file to a client: by sendfile where the server offers it, else in pieces of memory (TLS)."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from app.content.descriptor import Slice
from app.server.sendfile import ZEROCOPY, BodyBrokenOff

PIECE_BYTES = 256 << 10
"""What is read at once where sendfile is not to be had; measured as the best for TLS."""

Send = Callable[[Any], Awaitable[None]]


def offers_zerocopy(scope: Mapping[str, Any]) -> bool:
    """Whether the server of this request turns slices into sendfile."""
    return ZEROCOPY in scope.get("extensions", {})


async def send_slice(part: Slice, send: Send, *, zerocopy: bool) -> None:
    """Send one slice as a piece of the body that was begun. Raises ClientLeft, BodyBrokenOff."""
    if zerocopy:
        await send({"type": ZEROCOPY, "file": part.file.fileno(), "offset": part.offset, "count": part.count})
        return
    offset, stop = part.offset, part.offset + part.count
    while offset < stop:
        data = await _read(part.file.fileno(), min(PIECE_BYTES, stop - offset), offset)
        if not data:
            raise BodyBrokenOff("the cache's file is shorter than what was to be sent")
        await send({"type": "http.response.body", "body": data, "more_body": True})
        offset += len(data)


async def _read(fd: int, count: int, offset: int) -> bytes | memoryview:
    """What is in memory at once; what is not, in a thread, so that a cold disk keeps nobody else waiting."""
    buffer = bytearray(count)
    try:
        got = os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
    except OSError:  # EAGAIN: not in memory. EOPNOTSUPP: a file system that can not tell.
        return await asyncio.to_thread(os.pread, fd, count, offset)
    return memoryview(buffer)[:got]
