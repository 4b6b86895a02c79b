"""A pool of threads for transfers, which is no larger than what they wait for makes it worth.

While transfers keep the processors busy, more of them at once are slower: their buffers push each other out of the processor's cache, and
Python's lock goes from one to the next (`python -m bench.dataplane cold`). While they wait for whoever sends, more of them are faster. So a
transfer gets a thread of its own at once as long as there are fewer than processors; beyond that when it has waited for a moment in which
fewer of them were at work than there are processors. Where more of them are at work all the time, some end.

Owns: when a thread begins and ends, and which one is next: the one that was done last, as its memory is the nearest.
"""

import asyncio
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ParamSpec, TypeVar

LOOK_SECONDS = 0.02
"""How long a transfer waits at most where the others wait for whoever sends, once they have been idle; less would tell nothing."""

SILENT, SELDOM, OFTEN = 0.05, 0.4, 0.45
"""Of a thread's time, that on a processor or waiting for one. Those that pass on what is there all the time have, with the event loop beside them
on two processors, 0.6 to 0.8 where they are two, and 0.46 where they are eight, as they wait for Python's lock; those whose sender is 5 ms away
0.3. One whose sender says nothing has none."""

STUCK_SECONDS = 0.25
"""When none has begun for so long, one more thread does, however busy the others are: a transfer may be of a whole file, and others are not to
wait for its end."""

IDLE_SECONDS = 10.0

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def scheduled_seconds(thread: int) -> float | None:
    """How long a thread of this process was on a processor or waited for one (proc(5), /proc/pid/task/tid/schedstat); None: not known."""
    try:
        file = os.open(f"/proc/self/task/{thread}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            ran, waited, _ = os.read(file, 100).split()
        finally:
            os.close(file)
    except (OSError, ValueError):
        return None
    return (int(ran) + int(waited)) / 1e9


@dataclass(slots=True, eq=False)
class _Job:
    future: Future[Any]
    work: Callable[[], Any]

    def do(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.work()
        except BaseException as error:  # noqa: BLE001 -- whoever waits for it is told
            self.future.set_exception(error)
            del self.future  # Which has the error, whose frames have this.
        else:
            self.future.set_result(result)


@dataclass(slots=True, eq=False)
class _Thread:
    """`inbox` gives the next job, or None for the end; `number` is the system's, once it has begun."""

    inbox: "queue.SimpleQueue[_Job | None]" = field(default_factory=queue.SimpleQueue)
    number: int | None = None


class Carriers(Executor):
    """Runs what an event loop gives it, in that order.

    Args:
        threads_max: so many at once, however seldom they are at work.
        name: of the threads.
        processors: how many threads are never too many; None: as many as this process may use.
        at_work: as `scheduled_seconds`. Where nothing is known, threads count as waiting, and there are as many as jobs.
    """

    def __init__(
        self,
        threads_max: int,
        name: str,
        *,
        processors: int | None = None,
        at_work: Callable[[int], float | None] = scheduled_seconds,
    ) -> None:
        self._threads_max = threads_max
        self._name = name
        self._processors = min(threads_max, processors or len(os.sched_getaffinity(0)))
        self._at_work = at_work
        self._lock = threading.Lock()
        self._waiting: deque[_Job] = deque()
        self._limit = self._processors
        self._idle: list[_Thread] = []
        self._threads: dict[_Thread, threading.Thread] = {}
        self._looking_in: asyncio.AbstractEventLoop | None = None
        self._crowded = 0
        self._moved_at = 0.0
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Carriers {self._name}: {len(self._threads)} threads, {len(self._waiting)} jobs wait>"

    def __len__(self) -> int:
        return len(self._threads)

    def submit(
        self, function: Callable[Parameters, Result], /, *args: Parameters.args, **named: Parameters.kwargs
    ) -> Future[Result]:
        """As `Executor.submit`, on the event loop. Raises RuntimeError once it was shut down."""
        loop, future = asyncio.get_running_loop(), Future[Result]()
        job = _Job(future, partial(function, *args, **named))
        with self._lock:
            if self._is_closed:
                raise RuntimeError("nothing is carried any more")
            if self._idle:
                self._idle.pop().inbox.put(job)
            elif self._waiting or len(self._threads) >= self._limit or not self._start(job):
                if not self._waiting:
                    self._moved_at = time.monotonic()
                self._waiting.append(job)
        if (self._waiting or self._limit > self._processors) and self._looking_in is not loop:
            self._look_later(loop, self._all_at_work())
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As `Executor.shutdown`; what waits is done by the threads that there are, where it is not cancelled."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
            waiting = list(self._waiting) if cancel_futures else []
            if cancel_futures:
                self._waiting.clear()
            threads = list(self._threads.values())
        for one in idle:
            one.inbox.put(None)
        for job in waiting:
            job.future.cancel()
        if wait:
            for thread in threads:
                thread.join()

    # On the loop

    def _start(self, job: _Job) -> bool:
        """A thread for a job, with the lock; False where the system gives none. RuntimeError where there is no other that might do it."""
        one = _Thread()
        one.inbox.put(job)  # An argument would be kept as long as the thread lives.
        thread = threading.Thread(target=self._run, args=(one,), name=f"{self._name} {len(self._threads)}")
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                raise
            return False
        self._threads[one] = thread
        return True

    def _look_later(self, loop: asyncio.AbstractEventLoop, now: dict[_Thread, float]) -> None:
        loop.call_later(LOOK_SECONDS, self._look, loop, now, time.monotonic())
        self._looking_in = loop

    def _all_at_work(self) -> dict[_Thread, float]:
        """Seconds, of each thread of which they are known."""
        with self._lock:
            numbers = [(one, one.number) for one in self._threads if one.number is not None]
        known = ((one, self._at_work(number)) for one, number in numbers)
        return {one: seconds for one, seconds in known if seconds is not None}

    def _look(self, loop: asyncio.AbstractEventLoop, before: dict[_Thread, float], at: float) -> None:
        """See how many threads are of use, and begin those for which something waits."""
        self._looking_in = None
        now, seconds = self._all_at_work(), time.monotonic() - at
        # One that has begun meanwhile had no time to show whether it is at work.
        shares = [(now[one] - before[one]) / seconds if one in before else OFTEN for one in now]
        with self._lock:
            while self._waiting and self._waiting[0].future.cancelled():
                self._waiting.popleft()
            self._resize([share for share in shares if share >= SILENT])
            while not self._is_closed and self._waiting and len(self._threads) < self._limit:
                job = self._waiting.popleft()
                if not self._start(job):
                    self._waiting.appendleft(job)
                    break
                self._moved_at = time.monotonic()
            goes_on = bool(self._waiting) and not self._is_closed
        if goes_on:
            self._look_later(loop, now)

    def _resize(self, shares: Sequence[float]) -> None:
        """As many threads as keep the processors busy; `shares` are those of threads that are not silent, which come on top of these."""
        count, missing = len(self._threads), self._processors - len(shares)
        share = sum(shares) / max(1, len(shares))
        self._crowded = self._crowded + 1 if missing < 0 and share > OFTEN else 0
        as_many = (len(shares) or count) if share < SELDOM else 0
        if self._waiting and max(missing, as_many) > 0:
            self._limit = count + max(missing, as_many)
        elif self._waiting and time.monotonic() - self._moved_at > STUCK_SECONDS:
            self._limit = count + 1
        elif self._crowded > 1:  # Once may be chance.
            self._limit = count + missing
        self._limit = min(max(self._limit, self._processors), self._threads_max)

    # A thread

    def _run(self, one: _Thread) -> None:
        one.number = threading.get_native_id()
        job = one.inbox.get()
        while job is not None:
            job.do()
            del job  # Nor anything that it holds while there is no other.
            job = self._next(one)

    def _next(self, one: _Thread) -> _Job | None:
        """The next job; None when none came for long, or none will."""
        with self._lock:
            if len(self._threads) > self._limit or (self._is_closed and not self._waiting):
                del self._threads[one]
                return None
            if self._waiting:
                self._moved_at = time.monotonic()
                return self._waiting.popleft()
            self._idle.append(one)
        try:
            job = one.inbox.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            with self._lock:
                if one in self._idle:
                    self._idle.remove(one)
                    del self._threads[one]  # At once: nothing may wait for one that is not to come.
                    return None
            job = one.inbox.get()  # It was given one at the last moment.
        if job is None:
            with self._lock:
                del self._threads[one]
        return job
