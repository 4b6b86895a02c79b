import asyncio

import pytest

from app.upstream.remembered import Remembered


async def test_what_is_put_is_there_until_it_is_forgotten() -> None:
    remembered: Remembered[str] = Remembered()
    assert await remembered.get("k") is None
    await remembered.put("k", "v", 60)
    assert await remembered.get("k") == "v"
    await remembered.forget("k")
    assert await remembered.get("k") is None
    await remembered.forget("k")


async def test_what_lives_for_no_time_is_not_remembered() -> None:
    remembered: Remembered[str] = Remembered()
    await remembered.put("k", "v", 0)
    await remembered.put("k", "v", -5)
    assert await remembered.get("k") is None


async def test_a_value_ends_when_its_time_is_over() -> None:
    remembered: Remembered[str] = Remembered()
    await remembered.put("k", "v", 0.01)
    async with asyncio.timeout(10):
        while await remembered.get("k") is not None:
            await asyncio.sleep(0.005)


async def test_the_oldest_of_too_many_is_forgotten() -> None:
    remembered: Remembered[int] = Remembered(entries_max=3)
    for number in range(3):
        await remembered.put(str(number), number, 60)
    await remembered.put("0", 10, 60)
    await remembered.put("3", 3, 60)
    assert [await remembered.get(key) for key in "0123"] == [10, None, 2, 3]


async def test_concurrent_askers_cause_one_question() -> None:
    remembered: Remembered[str] = Remembered()
    asked, go = 0, asyncio.Event()

    async def ask() -> str:
        nonlocal asked
        asked += 1
        await go.wait()
        return "v"

    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(remembered.once("k", ask)) for _ in range(10)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        async with asyncio.timeout(10):
            while asked < 2:
                await asyncio.sleep(0)
        go.set()
        await asyncio.wait(waiting)
    assert [task.result() for task in waiting[1:]] == ["v"] * 9
    assert asked == 2, "the first asker left, one of the others asked in his place"


async def test_an_error_is_everybodys() -> None:
    remembered: Remembered[str] = Remembered()

    async def ask() -> str:
        await asyncio.sleep(0)
        raise LookupError("no")

    results = await asyncio.gather(*(remembered.once("k", ask) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [LookupError] * 3
    with pytest.raises(LookupError):
        await remembered.once("k", ask)
