"""How many threads carry bytes at once, and which."""

import asyncio
import hashlib
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from functools import partial

import pytest

from app.content import carriers
from app.content.carriers import Carriers, scheduled_seconds

SECONDS_MAX = 30


class Pool:
    """Two processors, eight threads at most; whether those are at work is said, not measured."""

    def __init__(self, threads_max: int = 8) -> None:
        self.share = 1.0
        self.running = self.most = 0
        self.go = threading.Semaphore(0)
        self.stalled: set[int] = set()
        self.goes_on = threading.Event()
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self.carriers = Carriers(threads_max, "test", processors=2, at_work=self._at_work)

    def _at_work(self, thread: int) -> float:
        return 0.0 if thread in self.stalled else (time.monotonic() - self._began) * self.share

    def stalls(self) -> None:
        """A job whose sender says nothing."""
        self.stalled.add(threading.get_native_id())
        self.goes_on.wait(SECONDS_MAX)

    def job(self, number: int) -> int:
        """Is on its way until it may go."""
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.go.acquire()
        with self._lock:
            self.running -= 1
        return number

    def submit(self, count: int) -> "list[Future[int]]":
        return [self.carriers.submit(self.job, number) for number in range(count)]


@contextmanager
def pool(threads_max: int = 8) -> Iterator[Pool]:
    one = Pool(threads_max)
    try:
        yield one
    finally:
        one.go.release(1000)
        one.goes_on.set()
        one.carriers.shutdown()


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while not what():
            await asyncio.sleep(0.005)


async def test_what_a_job_gives_or_raises_comes_to_whoever_waits_for_it() -> None:
    with pool() as it:
        assert await asyncio.wrap_future(it.carriers.submit(int, "ff", base=16)) == 255
        with pytest.raises(ValueError, match="invalid literal"):
            await asyncio.wrap_future(it.carriers.submit(int, "x"))


async def test_while_they_are_at_work_there_are_as_many_threads_as_processors() -> None:
    with pool() as it:
        jobs = it.submit(10)
        await asyncio.sleep(5 * carriers.LOOK_SECONDS)
        assert len(it.carriers) == it.running == 2
        for number in range(10):
            it.go.release()
            await until(lambda number=number: sum(job.done() for job in jobs) == number + 1)
        assert it.most == 2
        assert [job.result() for job in jobs] == list(range(10))


async def test_while_they_wait_for_whoever_sends_more_begin_up_to_the_most() -> None:
    with pool() as it:
        it.share = 0.1
        it.submit(10)
        await until(lambda: it.running == 8)
        await asyncio.sleep(3 * carriers.LOOK_SECONDS)
        assert it.running == len(it.carriers) == 8


async def test_nothing_waits_behind_one_that_hears_nothing() -> None:
    with pool() as it:
        it.share = 0.0
        stuck = it.submit(2)
        quick = [it.carriers.submit(int, "1") for _ in range(20)]
        async with asyncio.timeout(SECONDS_MAX):
            await asyncio.gather(*map(asyncio.wrap_future, quick))
        assert not any(job.done() for job in stuck)


async def test_of_more_than_there_are_processors_some_end_when_all_are_at_work() -> None:
    with pool() as it:
        it.share = 0.1
        it.submit(8)
        await until(lambda: it.running == 8)
        it.share = 1.0
        it.submit(20)
        async with asyncio.timeout(SECONDS_MAX):
            while len(it.carriers) > 2:
                it.go.release()
                await asyncio.sleep(carriers.LOOK_SECONDS)
        await asyncio.sleep(3 * carriers.LOOK_SECONDS)
        assert it.running == len(it.carriers) == 2


@pytest.mark.parametrize("stalled", [1, 2, 3])
async def test_beside_those_that_hear_nothing_as_many_are_at_work_as_there_are_processors(stalled: int) -> None:
    with pool() as it:
        for _ in range(stalled):
            it.carriers.submit(it.stalls)
        await until(lambda: len(it.stalled) == stalled)
        jobs, sizes = it.submit(40), []
        await until(lambda: it.running == 2)
        for _ in range(20):
            it.go.release()
            await asyncio.sleep(0.5 * carriers.LOOK_SECONDS)
            sizes.append(len(it.carriers))
        assert not all(job.done() for job in jobs)
        assert set(sizes) == {stalled + 2}


async def test_nothing_waits_for_long_for_the_end_of_what_is_at_work_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(carriers, "STUCK_SECONDS", 0.1)
    with pool() as it:
        it.submit(2)
        for _ in range(3):
            assert await asyncio.wait_for(asyncio.wrap_future(it.carriers.submit(int, "7")), SECONDS_MAX) == 7
        assert it.running == 2


async def test_what_was_called_off_makes_it_no_larger() -> None:
    with pool() as it:
        it.share = 0.1
        it.submit(2)
        for _ in range(5):
            assert it.carriers.submit(int, "1").cancel()
        await asyncio.sleep(3 * carriers.LOOK_SECONDS)
        assert len(it.carriers) == 2


async def test_jobs_begin_in_their_order() -> None:
    begun: list[int] = []
    with pool(threads_max=1) as it:
        it.submit(1)
        jobs = [it.carriers.submit(begun.append, number) for number in range(20)]
        it.go.release()
        await asyncio.gather(*map(asyncio.wrap_future, jobs))
    assert begun == list(range(20))


async def test_the_one_that_was_done_last_is_asked_next() -> None:
    with pool() as it:
        jobs = it.submit(2)
        it.go.release()
        await until(lambda: it.running == 1)
        it.go.release()
        await until(lambda: all(job.done() for job in jobs))
        threads = {
            await asyncio.wrap_future(it.carriers.submit(threading.get_ident))
            for _ in range(10)
            if not await asyncio.sleep(0.002)
        }
        assert len(threads) == 1


async def test_a_job_that_was_called_off_before_it_began_never_does() -> None:
    with pool(threads_max=1) as it:
        it.submit(1)
        ran: list[int] = []
        waiting = it.carriers.submit(ran.append, 1)
        assert waiting.cancel()
        it.go.release()
        assert await asyncio.wrap_future(it.carriers.submit(int, "7")) == 7
        assert ran == []


async def test_a_thread_that_waits_keeps_nothing_of_its_last_job() -> None:
    class Something:
        def __call__(self) -> int:
            return 7

        def fails(self) -> None:
            raise ValueError("no")

    with pool() as it:
        for job, outcome in ((Something.__call__, 7), (Something.fails, None)):
            something = Something()
            gone = weakref.ref(something)
            future = it.carriers.submit(job, something)
            if outcome is None:
                with pytest.raises(ValueError, match="no"):
                    await asyncio.wrap_future(future)
            else:
                assert await asyncio.wrap_future(future) == outcome
            del something, future
            await until(lambda gone=gone: gone() is None)


async def test_threads_that_nobody_needs_end_and_others_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carriers, "IDLE_SECONDS", 0.05)
    with pool() as it:
        for _ in range(3):
            assert await asyncio.wrap_future(it.carriers.submit(int, "7")) == 7
            await until(lambda: len(it.carriers) == 0)


@pytest.mark.parametrize("idle_seconds", [0.0, 0.001])
async def test_nothing_is_lost_between_a_threads_end_and_its_next_job(
    idle_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carriers, "IDLE_SECONDS", idle_seconds)
    with pool() as it:
        async with asyncio.timeout(SECONDS_MAX):
            for number in range(500):
                assert await asyncio.wrap_future(it.carriers.submit(abs, -number)) == number
                await asyncio.sleep(idle_seconds * (number % 3))


async def test_after_its_end_nothing_is_begun() -> None:
    it = Pool()
    begun, waiting = it.submit(2), it.submit(3)
    it.carriers.shutdown(wait=False, cancel_futures=True)
    it.go.release(1000)
    assert [job.result(SECONDS_MAX) for job in begun] == [0, 1]
    for job in waiting:
        with pytest.raises(CancelledError):
            job.result(SECONDS_MAX)
    with pytest.raises(RuntimeError):
        it.carriers.submit(int, "1")
    await until(lambda: len(it.carriers) == 0)


async def test_what_waits_at_its_end_is_done_where_it_is_not_called_off() -> None:
    it = Pool()
    jobs = it.submit(6)
    it.go.release(1000)
    await asyncio.to_thread(it.carriers.shutdown)
    assert [job.result(0) for job in jobs] == list(range(6))
    assert len(it.carriers) == 0


async def test_where_the_system_gives_no_more_threads_those_that_there_are_do_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_thread(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with pool() as it:
        it.share = 0.1
        jobs = it.submit(1)
        await until(lambda: it.running == 1)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            jobs += it.submit(5)
            await asyncio.sleep(3 * carriers.LOOK_SECONDS)
            assert len(it.carriers) == 1
            it.go.release(1000)
            await until(lambda: all(job.done() for job in jobs))


def test_a_thread_is_at_work_while_it_computes_and_not_while_it_waits() -> None:
    def measured(work: Callable[[], object]) -> float:
        me = threading.get_native_id()
        began, before = time.monotonic(), scheduled_seconds(me)
        while time.monotonic() - began < 0.5:
            work()
        return (scheduled_seconds(me) - before) / (time.monotonic() - began)

    data = bytes(1 << 20)
    assert measured(partial(hashlib.sha256, data)) > 0.8
    assert measured(partial(time.sleep, 0.05)) < 0.3
    assert scheduled_seconds(1 << 30) is None
