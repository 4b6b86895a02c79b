"""Members are asked how loaded they are as long as somebody looks, and no longer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

import pytest

from app.content.tasks import Tasks
from app.errors import SourceUnavailable
from app.operations import loads
from app.operations.documents import Load
from app.operations.loads import Loads
from app.operations.others import Alone, OtherNode

IDLE = Load(0, 100, 0, 0, 0, 0, 0, 0, 0)


class Members(Alone):
    """Others, each with how much its cache holds; a negative number is one that does not answer."""

    def __init__(self, used: dict[str, int]) -> None:
        self.used = used
        self.asked = 0

    def live(self) -> Sequence[OtherNode]:
        return [OtherNode(name, "") for name in self.used]

    async def load(self, name: str) -> Load:
        self.asked += 1
        if self.used[name] < 0:
            raise SourceUnavailable(f"{name} is silent")
        return replace(IDLE, cache_used=self.used[name])


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loads, "ASK_SECONDS", 0.001)
    monkeypatch.setattr(loads, "QUESTIONS_A_SECOND", 1e9)


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    async with Tasks() as tasks:
        yield tasks


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0)


def used(loads: Loads, name: str) -> int | None:
    load = loads.of(name)
    return None if load is None else load.cache_used


async def test_nobody_is_asked_unless_somebody_looks(tasks: Tasks) -> None:
    members = Members({"b": 1})
    known = Loads(members, tasks=tasks)
    assert known.of("b") is None
    with known.watched(), known.watched():
        await until(lambda: used(known, "b") == 1)
        members.used["b"] = 2
        await until(lambda: used(known, "b") == 2)
    await until(lambda: len(tasks) == 0)
    assert known.of("b") is None
    asked = members.asked
    with known.watched():
        await until(lambda: members.asked > asked)
        await until(lambda: used(known, "b") == 2)


async def test_who_does_not_answer_or_leaves_is_not_known_any_more(tasks: Tasks) -> None:
    members = Members({"b": 1, "c": 1})
    known = Loads(members, tasks=tasks)
    with known.watched():
        await until(lambda: used(known, "b") == used(known, "c") == 1)
        members.used["b"] = -1
        del members.used["c"]
        await until(lambda: used(known, "b") is None and used(known, "c") is None)
        members.used["b"] = 3
        await until(lambda: used(known, "b") == 3)


def test_a_load_is_read_as_it_was_written() -> None:
    load = Load(1, 2, 3, 4, 5, 6, 7, 8, 9)
    assert Load.from_json(load.to_json()) == load
    with pytest.raises(ValueError):
        Load.from_json(b'{"cache_used": 1}')
