"""One question for all who ask it at the same time.

The first asker asks; the others get what he gets, an error included. When he is cancelled, the next one asks in his place.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")


class _AskerLeft(Exception):
    """Whoever asked does not wait any more."""


class SingleFlight(Generic[Key, Answer]):
    """Questions under way, by key."""

    def __init__(self) -> None:
        self._under_way: dict[Key, asyncio.Future[Answer]] = {}

    async def ask(self, key: Key, question: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer to `question`, asked once for all who ask under `key` meanwhile."""
        while (asked := self._under_way.get(key)) is not None:
            try:
                return await asyncio.shield(asked)
            except _AskerLeft:
                continue
        answer = self._under_way[key] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(look_at)
        try:
            found = await question()
        except asyncio.CancelledError:
            answer.set_exception(_AskerLeft())
            raise
        except BaseException as error:
            answer.set_exception(error)
            raise
        else:
            answer.set_result(found)
            return found
        finally:
            del self._under_way[key]


def look_at(answer: "asyncio.Future[Answer]") -> None:
    """A callback for an answer that perhaps nobody waits for any more: asyncio is told that its error was seen."""
    if not answer.cancelled():
        answer.exception()
