"""Who is asked of upstream next, where it has no room for all."""

import asyncio

import pytest

from app.content.source import Want
from app.swarm.turns import Turns


class Fetches:
    """Chunks that are fetched in turn, by name. Each lasts until it is told to end."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.wants: dict[str, Want] = {}
        self.begun: list[str] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._over: dict[str, asyncio.Future[None]] = {}

    async def begin(self, *names: str, awaited: bool = False) -> None:
        for name in names:
            self.wants[name] = Want(awaited)
            self._over[name] = asyncio.get_running_loop().create_future()
            self._tasks[name] = asyncio.create_task(self._fetch(name))
            await asyncio.sleep(0)

    async def _fetch(self, name: str) -> None:
        async with self.turns.turn(self.wants[name], lambda: 0):
            self.begun.append(name)
            await self._over[name]

    async def comes(self, name: str) -> None:
        self._over[name].set_result(None)
        await self._tasks[name]
        await asyncio.sleep(0)

    async def fails(self, name: str) -> None:
        self._over[name].set_exception(OSError())
        with pytest.raises(OSError):
            await self._tasks[name]
        await asyncio.sleep(0)

    async def is_given_up(self, *names: str) -> None:
        await self.ends_of_those_given_up(*names)

    async def ends_of_those_given_up(self, *names: str) -> list[type | None]:
        for name in names:
            self._tasks[name].cancel()
        ends = await asyncio.gather(*(self._tasks[name] for name in names), return_exceptions=True)
        await asyncio.sleep(0)
        return [type(end) for end in ends]


@pytest.fixture
async def fetches() -> Fetches:
    return Fetches()


async def test_those_that_nobody_waits_for_wait_in_order(fetches: Fetches) -> None:
    await fetches.begin("a", "b", "c", "d")
    assert fetches.begun == ["a", "b"]
    await fetches.fails("b")
    assert fetches.begun == ["a", "b", "c"]


async def test_with_each_that_came_there_is_room_for_one_more(fetches: Fetches) -> None:
    await fetches.begin("a", "b", "c", "d", "e")
    await fetches.comes("a")
    assert fetches.begun == ["a", "b", "c", "d"]


async def test_what_a_client_waits_for_is_asked_for_at_once(fetches: Fetches) -> None:
    await fetches.begin("a", "b", "c")
    await fetches.begin("read", awaited=True)
    assert fetches.begun == ["a", "b", "read"]
    await fetches.fails("a")
    assert fetches.begun == ["a", "b", "read"], "it counts"


async def test_what_a_client_comes_to_wait_for_is_next(fetches: Fetches) -> None:
    await fetches.begin("a", "b", "c", "d")
    fetches.wants["d"].awaited = True
    await fetches.fails("a")
    assert fetches.begun == ["a", "b", "d"]


async def test_one_that_is_given_up_takes_nobodys_turn(fetches: Fetches) -> None:
    await fetches.begin("a", "b", "c", "d", "e")
    await fetches.is_given_up("c")
    await fetches.fails("a")
    assert fetches.begun == ["a", "b", "d"]
    await fetches.is_given_up("b", "d")
    assert fetches.begun == ["a", "b", "d", "e"]
    await fetches.comes("e")
    assert fetches.turns.is_idle


async def test_one_that_is_given_up_when_it_was_just_called_calls_the_next(fetches: Fetches) -> None:
    await fetches.begin("a", "b", "c", "d")
    fetches._over["a"].set_exception(OSError())
    await asyncio.sleep(0)  # "a" ends now, and calls "c", which has not heard it yet.
    await fetches.is_given_up("c")
    await fetches.is_given_up("a")
    assert fetches.begun == ["a", "b", "d"]


async def test_one_that_is_given_up_in_the_same_moment_is_passed_over(fetches: Fetches) -> None:
    await fetches.begin("a", "b", "c", "d")
    assert fetches.begun == ["a", "b"]
    assert await fetches.ends_of_those_given_up("b", "c") == [asyncio.CancelledError] * 2
    assert fetches.begun == ["a", "b", "d"]
    await fetches.comes("a")
    await fetches.comes("d")
    assert fetches.turns.is_idle
