"""Bytes of a file in memory, for connections that encrypt them: what is in memory at once; a cold disk keeps nobody else waiting."""

import asyncio
import os
import sys

PIECE_BYTES = 256 << 10
"""What is read at once; measured as the best."""


async def read_piece(fd: int, count: int, offset: int) -> bytes | memoryview:
    """At most `count` bytes at `offset`, and PIECE_BYTES; none only where the file ends. Raises OSError."""
    piece = memoryview(_unused())[: min(count, PIECE_BYTES)]
    try:
        got = os.preadv(fd, [piece], offset, os.RWF_NOWAIT)
    except OSError:  # EAGAIN: not in memory. EOPNOTSUPP: a file system that can not tell.
        return await asyncio.to_thread(os.pread, fd, len(piece), offset)
    return piece[:got]


_KEPT_MAX = 4
_kept: list[bytearray] = []


def _unused() -> bytearray:
    """A buffer that nobody else refers to: what was encrypted was let go of. A new one each time is new memory, and filled with zeros."""
    for buffer in _kept:
        if sys.getrefcount(buffer) == _OF_THE_LOOP_ALONE:
            return buffer
    buffer = bytearray(PIECE_BYTES)
    if len(_kept) < _KEPT_MAX:
        _kept.append(buffer)
    return buffer


_OF_THE_LOOP_ALONE = 3
"""References to a kept buffer: the list's, the loop variable's, and the argument's (sys.getrefcount). Each view of it is another."""
