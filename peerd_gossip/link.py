"""What waits to be sent to one peer: a queue of bounded bytes, so that who reads slowly slows nobody else."""

from __future__ import annotations

import asyncio
import time
from collections import deque

QUEUE_BYTES_MAX = 4 << 20


class Link:
    """What waits to be sent to one peer."""

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._closed = False
        self.used_at = time.monotonic()

    def put(self, frame: bytes) -> bool:
        """Queue a frame; False when the peer is too far behind."""
        if self._bytes + len(frame) > QUEUE_BYTES_MAX:
            return False
        self._frames.append(frame)
        self._bytes += len(frame)
        self._filled.set()
        self._drained.clear()
        self.used_at = time.monotonic()
        return True

    def close(self) -> None:
        """What is queued is still sent, and then the conversation ends."""
        self._closed = True
        self._filled.set()

    async def get(self) -> bytes | None:
        """The next frame, None after the last; to ask for it means that the one before is sent."""
        while not self._frames:
            self._drained.set()
            if self._closed:
                return None
            self._filled.clear()
            await self._filled.wait()
        frame = self._frames.popleft()
        self._bytes -= len(frame)
        return frame

    async def drained(self) -> None:
        """Wait until everything is sent."""
        await self._drained.wait()
