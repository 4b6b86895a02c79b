"""What upstream told, for as long as it holds; asked once for all who wait.

Owns: the join of aiocache (values with a time to live) and one flight for concurrent askers. A hundred chunks of one blob
want a token at the same moment: one request is made, and it is nobody's own, so that the first asker's leaving does not
fail the others.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, Self, TypeVar

from aiocache import SimpleMemoryCache

Value = TypeVar("Value")

# A bound, not a size to aim at: keys are made of what clients name, and clients may name anything.
_ENTRIES_MAX = 4096


class Remembered(Generic[Value]):
    """Values by key, each with its own time to live; on the loop only.

    An async context manager: leaving it ends the questions that are under way.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._values = SimpleMemoryCache()
        self._keys: OrderedDict[str, None] = OrderedDict()
        self._flights: dict[str, asyncio.Future[Value]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for task in self._tasks:
            task.cancel()
        # Not a TaskGroup: it would wrap whatever error leaves the block in a group of its own.
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._values.clear()

    async def get(self, key: str) -> Value | None:
        """What is remembered under `key`."""
        value: Value | None = await self._values.get(key)
        return value

    async def put(self, key: str, value: Value, ttl_seconds: float) -> None:
        """Remember `value` for `ttl_seconds`; not at all where that is nothing. The oldest of too many is forgotten."""
        if ttl_seconds <= 0:
            return
        await self._values.set(key, value, ttl=ttl_seconds)
        self._keys[key] = None
        self._keys.move_to_end(key)
        while len(self._keys) > _ENTRIES_MAX:
            oldest, _ = self._keys.popitem(last=False)
            await self._values.delete(oldest)

    async def forget(self, key: str) -> None:
        """Forget what is remembered under `key`, if anything."""
        self._keys.pop(key, None)
        await self._values.delete(key)

    async def once(self, key: str, ask: Callable[[], Awaitable[Value]]) -> Value:
        """What `ask` returns or raises; those who ask for `key` meanwhile get the same. Cancelling ends only this wait."""
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.get_running_loop().create_future()
            # Somebody may have left before it failed; an error that nobody waited for is no event.
            flight.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._flights[key] = flight
            task = asyncio.create_task(self._fly(key, flight, ask), name="upstream question")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(flight)

    async def _fly(self, key: str, flight: "asyncio.Future[Value]", ask: Callable[[], Awaitable[Value]]) -> None:
        try:
            value = await ask()
        except asyncio.CancelledError:
            flight.cancel()
            raise
        except Exception as error:  # noqa: BLE001 -- the task ends here; whoever waits raises it
            flight.set_exception(error)
        else:
            flight.set_result(value)
        finally:
            del self._flights[key]
