"""Which content has a slot that comes free, and that none is lost or given twice."""

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st

from app.content.slots import SlotQueue, Slots

BEGUN = st.integers(1, 4)


def test_every_other_slot_goes_to_the_content_begun_first() -> None:
    queue: SlotQueue[str] = SlotQueue()
    for number in range(4):
        for begun, content in enumerate(("config", "layer one", "layer two")):
            queue.put(begun, f"{content}: {number}")
    in_order = [queue.take() for _ in range(len(queue))]
    assert in_order[:8] == [
        *("config: 0", "config: 1"),
        *("layer one: 0", "config: 2"),
        *("layer two: 0", "config: 3"),
        *("layer one: 1", "layer one: 2"),
    ]


@given(st.lists(BEGUN, min_size=1))
def test_whoever_waits_has_a_slot_once(waiting: list[int]) -> None:
    queue: SlotQueue[int] = SlotQueue()
    for place, begun in enumerate(waiting):
        queue.put(begun, place)
    assert sorted(queue.take() for _ in waiting) == list(range(len(waiting)))
    assert len(queue) == 0


@given(before=st.lists(BEGUN), begun=BEGUN)
def test_nobody_waits_longer_than_two_slots_for_each_that_came_before(before: list[int], begun: int) -> None:
    """However many of the content begun first come after."""
    queue: SlotQueue[str] = SlotQueue()
    for other in before:
        queue.put(other, "another")
    queue.put(begun, "this one")
    taken = 0
    while queue.take() != "this one":
        queue.put(0, "one of the first content's, which comes again and again")
        taken += 1
    assert taken <= 2 * len(before) + 1


async def test_never_more_at_once_than_there_are_slots_and_all_of_them_in_the_end() -> None:
    slots, rng = Slots(3), random.Random(1)
    inside = most = ended = 0

    async def fetch(begun: int) -> None:
        nonlocal inside, most, ended
        async with slots.one(begun):
            inside += 1
            most = max(most, inside)
            try:
                await asyncio.sleep(rng.uniform(0, 0.002))
                ended += 1
            finally:
                inside -= 1

    tasks = [asyncio.create_task(fetch(number % 4)) for number in range(400)]
    while not all(task.done() for task in tasks):
        rng.choice(tasks).cancel()  # it waits, has a slot, was given one just now, or has ended
        await asyncio.sleep(rng.choice((0, 0.001)))
    assert most == 3
    assert 0 < ended < 400
    async with slots.one(1), slots.one(2), slots.one(3):
        waits = asyncio.create_task(fetch(1))
        await asyncio.sleep(0.01)
        assert not waits.done()
    await waits


async def test_a_slot_that_was_given_to_somebody_cancelled_is_given_on() -> None:
    slots = Slots(1)

    async def hold() -> None:
        async with slots.one(1):
            await asyncio.sleep(0)

    async with slots.one(1):
        cancelled, next_one = asyncio.create_task(hold()), asyncio.create_task(hold())
        await asyncio.sleep(0)
    cancelled.cancel()  # between the gift and its turn in the loop
    await asyncio.wait_for(next_one, 1)
    assert cancelled.cancelled()
