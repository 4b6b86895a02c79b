"""Bytes of a file in memory, for connections that encrypt them: what is in memory at once; a cold disk keeps nobody else waiting."""

import asyncio
import os

PIECE_BYTES = 256 << 10
"""What is read at once; measured as the best."""


async def read_piece(fd: int, count: int, offset: int) -> bytes | memoryview:
    """At most `count` bytes at `offset`, and PIECE_BYTES; none only where the file ends. Raises OSError."""
    buffer = bytearray(min(count, PIECE_BYTES))
    try:
        got = os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
    except OSError:  # EAGAIN: not in memory. EOPNOTSUPP: a file system that can not tell.
        return await asyncio.to_thread(os.pread, fd, len(buffer), offset)
    return memoryview(buffer)[:got]
