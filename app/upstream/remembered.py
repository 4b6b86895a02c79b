"""What upstream told, for as long as it holds; asked once for all who wait.

Owns: the join of aiocache (values with a time to live) and one flight for concurrent askers, with a bound on both. A hundred
chunks of one blob want a token at the same moment: one request is made.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from aiocache import SimpleMemoryCache

from app.content.single_flight import SingleFlight

Value = TypeVar("Value")

# A bound, not a size to aim at: keys are made of what clients name, and clients may name anything.
_ENTRIES_MAX = 4096


class Remembered(Generic[Value]):
    """Values by key, each with its own time to live; on the loop only."""

    def __init__(self, *, entries_max: int = _ENTRIES_MAX) -> None:
        self._entries_max = entries_max
        self._values = SimpleMemoryCache(timeout=0)  # Else each look at it is a task of its own.
        self._oldest_first: OrderedDict[str, None] = OrderedDict()
        self._questions: SingleFlight[str, Value] = SingleFlight()

    async def get(self, key: str) -> Value | None:
        """What is remembered under `key`."""
        if key not in self._oldest_first:  # Most are not, and aiocache takes its time to say so.
            return None
        value: Value | None = await self._values.get(key)
        return value

    async def put(self, key: str, value: Value, ttl_seconds: float) -> None:
        """Remember `value` for `ttl_seconds`; not at all where that is nothing. The oldest of too many is forgotten."""
        if ttl_seconds <= 0:
            return
        await self._values.set(key, value, ttl=ttl_seconds)
        self._oldest_first[key] = None
        self._oldest_first.move_to_end(key)
        while len(self._oldest_first) > self._entries_max:
            oldest, _ = self._oldest_first.popitem(last=False)
            await self._values.delete(oldest)

    async def forget(self, key: str) -> None:
        """Forget what is remembered under `key`, if anything."""
        self._oldest_first.pop(key, None)
        await self._values.delete(key)

    async def once(self, key: str, ask: Callable[[], Awaitable[Value]]) -> Value:
        """What `ask` returns or raises; those who ask for `key` meanwhile get the same."""
        return await self._questions.ask(key, ask)
