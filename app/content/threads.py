"""Threads for what would stop the event loop: hashing, cold disk, blocking sockets.

Pools of their own, so that none waits for another: `upstream` and `peers` carry bytes in, `disk` hashes and deletes. A node that
waits for another node, which in turn waits for upstream, must never keep a third one's question to upstream waiting.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar, TypeVarTuple, Unpack

from app.content.carriers import Carriers

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


class Threads:
    """Owns the pools; `async with` ends them. A function already running goes on to its end."""

    def __init__(self, *, upstream: int = 16, peers: int = 16, disk: int = 3) -> None:
        self.upstream = Carriers(upstream, "upstream")
        self.peers = ThreadPoolExecutor(peers, "peers")
        self._disk = ThreadPoolExecutor(disk, "disk")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for pool in (self.upstream, self.peers, self._disk):
            pool.shutdown(wait=False, cancel_futures=True)
        # Joined off the loop: a thread may still hand its last word to it.
        await loop.run_in_executor(None, self._disk.shutdown)

    async def disk(self, function: Callable[[Unpack[Arguments]], Result], *args: *Arguments) -> Result:
        """Run something that reads, hashes or deletes."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, function, *args)
