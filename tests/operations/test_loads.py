"""Members are asked how loaded they are as long as somebody looks, and no longer."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

import pytest

from app.content.tasks import Tasks
from app.errors import SourceUnavailable
from app.observability.copies import CONTENTS_TOLD, NAME_LENGTH_MAX, PIECES_MAX, Received
from app.operations import loads
from app.operations.documents import COUNT_MAX, Load
from app.operations.loads import Loads
from app.operations.others import Alone, OtherNode
from app.swarm.protocol import DOCUMENT_SIZE_MAX

IDLE = Load(0, 100, 0, 0, 0, 0, 0, 0, 0)
LAYER = Received("reg.test/app", "0" * 32, 100, 60, 1, 1000)


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
        return replace(IDLE, cache_used=self.used[name], from_upstream=(LAYER,))


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


async def test_what_upstream_sent_to_all_who_answer_is_put_together(tasks: Tasks) -> None:
    members = Members({"b": 1, "c": 1, "d": -1})
    known = Loads(members, tasks=tasks)
    assert (known.answered, known.from_upstream) == (0, [])
    with known.watched():
        await until(lambda: known.answered == 2)
        assert known.from_upstream == [replace(LAYER, count=2 * LAYER.count)]
        members.used["d"] = 1
        await until(lambda: known.answered == 3)
        assert known.from_upstream == [replace(LAYER, count=3 * LAYER.count)]
    await until(lambda: known.answered == 0)
    assert known.from_upstream == []


FULL = Received("n" * NAME_LENGTH_MAX, "f" * 32, COUNT_MAX - 1, COUNT_MAX - 1, (1 << PIECES_MAX) - 1, COUNT_MAX - 1)


@pytest.mark.parametrize(
    "load",
    [
        Load(1, 2, 3, 4, 5, 6, 7, 8, 9),
        Load(1, 2, 3, 4, 5, 6, 7, 8, 9, (LAYER,)),
        Load(*[1 << 70] * 9, (FULL,) * CONTENTS_TOLD),
    ],
)
def test_a_load_is_read_as_it_was_written(load: Load) -> None:
    text = load.to_json()
    assert Load.from_json(text) == load
    assert len(text) < 0.8 * DOCUMENT_SIZE_MAX


def test_a_member_that_tells_nothing_of_upstream_tells_the_rest() -> None:
    said = json.loads(IDLE.to_json())
    del said["from_upstream"]
    assert Load.from_json(json.dumps(said).encode()) == IDLE


def test_a_document_that_lacks_a_count_is_no_load() -> None:
    with pytest.raises(ValueError):
        Load.from_json(b'{"cache_used": 1}')


ROW = ["reg.test/app", "0" * 32, "1", 5, 5, 1000]


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param({}, id="no list"),
        pytest.param([ROW] * (CONTENTS_TOLD + 1), id="too many"),
        pytest.param([{}], id="no row"),
        pytest.param([ROW[:5]], id="a row that is too short"),
        pytest.param([[*ROW, 1]], id="a row that is too long"),
        pytest.param([["", *ROW[1:]]], id="no name"),
        pytest.param([["a" * (NAME_LENGTH_MAX + 1), *ROW[1:]]], id="a name that is too long"),
        pytest.param([["a\u202eb", *ROW[1:]]], id="a name that turns the line around"),
        pytest.param([["a\nb", *ROW[1:]]], id="a name of two lines"),
        pytest.param([[1, *ROW[1:]]], id="a name that is a number"),
        pytest.param([[*ROW[:1], "sha256:abc", *ROW[2:]]], id="no content"),
        pytest.param([[*ROW[:2], "", *ROW[3:]]], id="no pieces"),
        pytest.param([[*ROW[:2], "0", *ROW[3:]]], id="nothing that came"),
        pytest.param([[*ROW[:2], "-1", *ROW[3:]]], id="pieces below nothing"),
        pytest.param([[*ROW[:2], "2", *ROW[3:]]], id="a piece behind the end"),
        pytest.param([[*ROW[:2], "f" * 100_000, *ROW[3:]]], id="very many pieces"),
        pytest.param([[*ROW[:3], 0, *ROW[4:]]], id="an empty content"),
        pytest.param([[*ROW[:3], 1 << 60, *ROW[4:]]], id="a size beyond belief"),
        pytest.param([[*ROW[:4], -5, *ROW[5:]]], id="less than nothing that came"),
        pytest.param([[*ROW[:4], 5.5, *ROW[5:]]], id="half a byte"),
        pytest.param([[*ROW[:5], 10**30]], id="the end of time"),
    ],
)
def test_what_another_member_tells_of_upstream_is_not_believed_as_it_stands(rows: object) -> None:
    said = json.loads(IDLE.to_json()) | {"from_upstream": rows}
    with pytest.raises(ValueError):
        Load.from_json(json.dumps(said).encode())


def test_the_row_that_those_were_made_of_is_one() -> None:
    said = json.loads(IDLE.to_json()) | {"from_upstream": [ROW]}
    assert Load.from_json(json.dumps(said).encode()).from_upstream == (
        Received("reg.test/app", "0" * 32, 5, 5, 1, 1000),
    )
