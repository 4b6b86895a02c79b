"""Slots for chunks that no client waits for yet, over all contents of a node, and to which content one goes that comes free.

Where a client reads several contents, as layers of an image, and all of them had as many slots, all of them would end at the same
time: then nothing is left to be fetched while the client turns to those that it did not begin yet, and who unpacks them in order
waits for the first as long as for the last. Where all slots went to the content that was begun first, all nodes of a crowd would
look for the same few chunks. So every other slot goes to the one that was begun first; docs/swarm.md has what it is worth.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

Waiter = TypeVar("Waiter")


class SlotQueue(Generic[Waiter]):
    """Who waits for a slot. No I/O."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Waiter]] = []
        self._in_turn = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, begun: int, waiter: Waiter) -> None:
        """Of the content that was begun as the `begun`th."""
        self._waiting.append((begun, waiter))

    def take(self) -> Waiter:
        """Whose turn it is: of whoever was begun first, and of all, one after the other. Raises IndexError when nobody waits."""
        self._in_turn = not self._in_turn
        place = 0 if self._in_turn else min(range(len(self._waiting)), key=lambda place: self._waiting[place][0])
        return self._waiting.pop(place)[1]


class Slots:
    """So many at once."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._queue: SlotQueue[asyncio.Future[None]] = SlotQueue()

    @asynccontextmanager
    async def one(self, begun: int) -> AsyncIterator[None]:
        """A slot within this block, for the content that was begun as the `begun`th."""
        if self._free:
            self._free -= 1
        else:
            given = asyncio.get_running_loop().create_future()
            self._queue.put(begun, given)
            try:
                await given
            except asyncio.CancelledError:
                if not given.cancelled():  # it was given just now
                    self._give_back()
                raise
        try:
            yield
        finally:
            self._give_back()

    def _give_back(self) -> None:
        while self._queue:
            given = self._queue.take()
            if not given.cancelled():
                given.set_result(None)
                return
        self._free += 1
