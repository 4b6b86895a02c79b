"""Threads for what would stop the event loop: hashing, cold disk, blocking sockets.

Two pools, so that a slow network never keeps a disk waiting: `fetch` carries bytes in, `disk` hashes and deletes.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar, TypeVarTuple, Unpack

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


class Threads:
    """Owns both pools; `async with` ends them. A function already running goes on to its end."""

    def __init__(self, *, fetch: int = 16, disk: int = 3) -> None:
        self.fetch = ThreadPoolExecutor(fetch, thread_name_prefix="fetch")
        self._disk = ThreadPoolExecutor(disk, thread_name_prefix="disk")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for pool in (self.fetch, self._disk):
            pool.shutdown(wait=False, cancel_futures=True)
        # Joined off the loop: a thread may still hand its last word to it.
        await loop.run_in_executor(None, self._disk.shutdown)

    async def disk(self, function: Callable[[Unpack[Arguments]], Result], *args: *Arguments) -> Result:
        """Run something that reads, hashes or deletes."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, function, *args)
