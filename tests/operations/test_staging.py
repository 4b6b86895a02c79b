"""A preheat over many nodes, in stages: who begins when, and what becomes of those that can not."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest

from app.content.tasks import Tasks
from app.errors import BadRequest, SourceUnavailable
from app.operations import preheat as preheats
from app.operations.bring import Bringer, Bringing
from app.operations.documents import BringOrder, BringProgress, Forgotten, Load, PurgeOrder
from app.operations.others import OtherNode
from app.operations.preheat import NodePart, Preheat, Preheats, choose
from app.operations.shelf import RUNNING_MAX, Full

GOOD, BAD = "host/good:1", "host/bad:1"


def everybody(names: str, can: set[str]) -> dict[str, set[str]]:
    return dict.fromkeys(names, can)


class World:
    """Nodes that can bring some references from upstream, and anything from members."""

    def __init__(self, can: Mapping[str, set[str]], *, unreachable: Sequence[str] = ()) -> None:
        self.can = can
        self.unreachable = unreachable
        self.orders: list[tuple[str, BringOrder]] = []
        self._progress: dict[tuple[str, str], BringProgress] = {}

    def carry_out(self, name: str, order: BringOrder) -> BringProgress:
        self.orders.append((name, order))
        missing = {text for text in order.references if text not in self.can[name] and not order.from_members}
        brought = frozenset(place for place, text in enumerate(order.references) if text not in missing)
        error = f"no {', '.join(sorted(missing))}" if missing else None
        return BringProgress("failed" if missing else "finished", 10 * len(brought), 10, error, brought)

    # Others

    def live(self) -> Sequence[OtherNode]:
        return [OtherNode(name, "") for name in self.can if name != "a"]

    async def bring(self, name: str, order: BringOrder) -> None:
        if name in self.unreachable:
            raise SourceUnavailable(f"{name} refused the connection")
        self._progress[name, order.id] = self.carry_out(name, order)

    async def progress(self, name: str, identity: str) -> BringProgress:
        return self._progress[name, identity]

    async def purge(self, name: str, order: PurgeOrder) -> Forgotten:
        raise NotImplementedError

    async def load(self, name: str) -> Load:
        raise NotImplementedError

    # Bringer

    async def bring_here(self, bringing: Bringing) -> None:
        bringing.begin()
        progress = self.carry_out("a", bringing.order)
        bringing.expect(10)
        bringing.held(progress.done)
        for place in set(range(len(bringing.order.references))) - progress.brought:
            bringing.fail([place], "upstream has none")
        bringing.end()


class _Here:
    def __init__(self, world: World) -> None:
        self.bring = world.bring_here


async def run(world: World, *references: str, count: int | None = None) -> Preheat:
    async with Tasks() as tasks:
        preheats_ = Preheats(
            OtherNode("a", ""), cast("Bringer", _Here(world)), world, tasks=tasks, rng=random.Random(1)
        )
        preheat = preheats_.start(references, count)
        async with asyncio.timeout(20):
            while not preheat.ended:
                await asyncio.sleep(0)
        assert preheats_.get(preheat.id) is preheat
    return preheat


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preheats, "ASK_SECONDS", 0)
    monkeypatch.setattr(preheats, "QUESTIONS_A_SECOND", 1e9)


def states(preheat: Preheat) -> dict[str, str]:
    return {node.name: node.now.state for node in preheat.nodes}


async def test_this_node_goes_first_and_the_rest_take_from_members() -> None:
    world = World(everybody("abcd", {GOOD}))
    preheat = await run(world, GOOD)
    assert set(states(preheat).values()) == {"finished"}
    (first, order), *rest = world.orders
    assert (first, order.from_members) == ("a", False)
    assert sorted(name for name, _ in rest) == ["b", "c", "d"]
    assert all(order.from_members for _, order in rest)


async def test_only_as_many_nodes_as_were_asked_for() -> None:
    world = World(everybody("abcd", {GOOD}))
    assert len(states(await run(world, GOOD, count=2))) == 2
    assert world.orders[0][0] == "a"


async def test_another_node_goes_first_where_this_one_can_not_reach_upstream() -> None:
    world = World({"a": set(), "b": {GOOD}, "c": {GOOD}})
    preheat = await run(world, GOOD)
    assert set(states(preheat).values()) == {"finished"}
    assert [order.from_members for name, order in world.orders if name == "a"] == [False, True]
    assert sum(not order.from_members for _, order in world.orders) == 2


async def test_what_the_first_nodes_can_not_bring_is_not_asked_for_by_the_rest() -> None:
    world = World(everybody("abcdefgh", {GOOD}))
    preheat = await run(world, GOOD, BAD)
    assert set(states(preheat).values()) == {"failed"}
    assert sum(BAD in order.references for _, order in world.orders) == preheats.FIRST_MAX
    late = [
        node for node in preheat.nodes if all(name != node.name or order.from_members for name, order in world.orders)
    ]
    assert len(late) == 8 - preheats.FIRST_MAX
    for node in late:
        assert node.now.done == 10
        assert BAD in str(node.now.error)
        assert GOOD not in str(node.now.error)


async def test_nobody_is_asked_for_what_nobody_could_bring() -> None:
    world = World(everybody("abcdefgh", set()))
    preheat = await run(world, BAD)
    assert set(states(preheat).values()) == {"failed"}
    assert len(world.orders) == preheats.FIRST_MAX


async def test_a_node_that_does_not_answer_fails_alone() -> None:
    preheat = await run(World(everybody("abc", {GOOD}), unreachable=["b"]), GOOD)
    assert states(preheat) == {"a": "finished", "b": "failed", "c": "finished"}
    assert "refused the connection" in str(next(node.now.error for node in preheat.nodes if node.name == "b"))


async def test_a_reference_that_can_not_be_meant_begins_nothing() -> None:
    with pytest.raises(BadRequest):
        await run(World({"a": set()}), GOOD, "Not An Image")


@asynccontextmanager
async def stuck() -> AsyncIterator[Preheats]:
    """Preheats that never end by themselves."""

    class Stuck:
        async def bring(self, bringing: Bringing) -> None:
            bringing.begin()
            await asyncio.Event().wait()

    async with Tasks() as tasks:
        yield Preheats(
            OtherNode("a", ""), cast("Bringer", Stuck()), World({"a": set()}), tasks=tasks, rng=random.Random(1)
        )


async def test_too_many_are_refused() -> None:
    async with stuck() as many:
        for _ in range(RUNNING_MAX):
            many.start([GOOD], None)
        with pytest.raises(Full):
            many.start([GOOD], None)


async def test_a_node_that_stops_ends_its_preheats_and_says_so() -> None:
    async with stuck() as one:
        preheat = one.start([GOOD], None)
        await asyncio.sleep(0)
        assert states(preheat) == {"a": "running"}
    assert preheat.ended
    assert states(preheat) == {"a": "failed"}
    assert "stopped" in str(preheat.nodes[0].now.error)


async def test_the_same_order_twice_is_one() -> None:
    async with stuck() as one:
        for _ in range(RUNNING_MAX + 1):
            one.accept(BringOrder("same", (GOOD,)))
        progress = one.progress("same")
        assert progress is not None
        assert not progress.ended
        assert one.progress("other") is None


@pytest.mark.parametrize(
    ("zones", "count", "chosen_zones"),
    [
        pytest.param({"b": "z1", "c": "z2", "d": "z3"}, 3, {"z2", "z3"}, id="other zones before this node's own"),
        pytest.param({"b": "z2", "c": "z2", "d": "z3"}, 3, {"z2", "z3"}, id="one of each zone before a second one"),
        pytest.param({"b": "z1", "c": "z1"}, 9, {"z1"}, id="no more than there are"),
        pytest.param({"b": "z1"}, 1, set(), id="this node alone"),
        pytest.param({}, None, set(), id="there is nobody else"),
    ],
)
def test_choice_of_nodes(zones: dict[str, str], count: int | None, chosen_zones: set[str]) -> None:
    others = [OtherNode(name, zone) for name, zone in zones.items()]
    chosen = choose("z1", others, count, random.Random(7))
    assert len(chosen) == len(set(chosen)) == min(len(zones), len(zones) if count is None else count - 1)
    assert {zones[name] for name in chosen} == chosen_zones


def test_the_reason_of_a_node_that_fails_twice_names_both() -> None:
    node = NodePart("a", BringProgress("failed", 5, 10, "host/a: gone", frozenset({1})))
    node.fail("host/b was not asked for")
    assert node.now == BringProgress("failed", 5, 10, "host/a: gone; host/b was not asked for", frozenset({1}))
