"""A pool of threads for transfers, which is no larger than what they wait for makes it worth.

While transfers keep the processors busy, more of them at once are slower: their buffers push each other out of the processor's cache, and
Python's lock goes from one to the next (`python -m bench.dataplane cold`). While they wait for whoever sends, more of them are faster. So a
transfer gets a thread of its own at once as long as there are fewer than processors; beyond that when it has waited for a moment in which
the threads that there are were seldom at work. Where more of them are at work all the time, some end.

Owns: when a thread begins and ends, and which one is next: the one that was done last, as its memory is the nearest.
"""

import asyncio
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

LOOK_SECONDS = 0.02
"""How long a transfer waits at most where the others wait for whoever sends, once they have been idle; less would tell nothing."""

SELDOM, OFTEN = 0.4, 0.45
"""Of its time that a thread is on a processor, or waits for one. Two that pass on what is there all the time, with the event loop beside them
on two processors: 0.6 to 0.8; eight: 0.46, as they wait for Python's lock. One whose sender is 5 ms away: 0.3."""

IDLE_SECONDS = 10.0

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def scheduled_seconds(thread: int) -> float:
    """How long a thread of this process was on a processor or waited for one (proc(5), /proc/pid/task/tid/schedstat).

    Always 0 where the system does not say: there nobody knows that more threads are too many.
    """
    try:
        with Path(f"/proc/self/task/{thread}/schedstat").open() as file:
            ran, waited, _ = file.read().split()
    except (OSError, ValueError):
        return 0.0
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
        begin: called by each thread first.
        processors: how many threads are never too many; None: as many as this process may use.
        at_work: seconds that a thread, by its number, was on a processor or waited for one.
    """

    def __init__(
        self,
        threads_max: int,
        name: str,
        begin: Callable[[], None] = lambda: None,
        *,
        processors: int | None = None,
        at_work: Callable[[int], float] = scheduled_seconds,
    ) -> None:
        self._threads_max = threads_max
        self._name = name
        self._begin = begin
        self._processors = min(threads_max, processors or len(os.sched_getaffinity(0)))
        self._at_work = at_work
        self._lock = threading.Lock()
        self._waiting: deque[_Job] = deque()
        self._limit = self._processors
        self._idle: list[_Thread] = []
        self._threads: dict[_Thread, threading.Thread] = {}
        self._is_looking = self._is_closed = False

    def __repr__(self) -> str:
        return f"<Carriers {self._name}: {len(self._threads)} threads, {len(self._waiting)} jobs wait>"

    def __len__(self) -> int:
        return len(self._threads)

    def submit(
        self, function: Callable[Parameters, Result], /, *args: Parameters.args, **named: Parameters.kwargs
    ) -> Future[Result]:
        """As `Executor.submit`, on the event loop. Raises RuntimeError once it was shut down."""
        future: Future[Result] = Future()
        job = _Job(future, partial(function, *args, **named))
        with self._lock:
            if self._is_closed:
                raise RuntimeError("nothing is carried any more")
            if self._idle:
                self._idle.pop().inbox.put(job)
            elif len(self._threads) < self._limit:
                self._start(job)
            else:
                self._waiting.append(job)
            if self._waiting or self._limit > self._processors:
                self._look_later()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As `Executor.shutdown`; what waits is done by the threads that there are, where it is not cancelled."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
            waiting = list(self._waiting) if cancel_futures else []
            threads = list(self._threads.values())
        for one in idle:
            one.inbox.put(None)
        for job in waiting:
            job.future.cancel()
        if wait:
            for thread in threads:
                thread.join()

    # On the loop, with the lock

    def _start(self, job: _Job) -> None:
        """A thread for a job. Raises RuntimeError where the system gives none, and there is no other that might do it."""
        one = _Thread()
        one.inbox.put(job)  # An argument would be kept as long as the thread lives.
        thread = threading.Thread(target=self._run, args=(one,), name=f"{self._name} {len(self._threads)}")
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                raise
            self._limit = len(self._threads)
            self._waiting.appendleft(job)
        else:
            self._threads[one] = thread

    def _look_later(self) -> None:
        if not self._is_looking:
            self._is_looking = True
            asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look, self._all_at_work(), time.monotonic())

    def _all_at_work(self) -> dict[_Thread, float]:
        """Seconds, of each thread that has begun."""
        return {one: self._at_work(one.number) for one in self._threads if one.number is not None}

    def _look(self, before: dict[_Thread, float], at: float) -> None:
        """Twice as many threads where those that there are wait for whoever sends; half as many where they keep processors from each other."""
        with self._lock:
            self._is_looking = False
            count, seconds = len(self._threads), time.monotonic() - at
            shares = [(now - before[one]) / seconds for one, now in self._all_at_work().items() if one in before]
            share = sum(shares) / max(1, len(shares))
            if self._waiting and share < SELDOM:
                self._limit = min(2 * count, self._threads_max)
                while self._waiting and len(self._threads) < self._limit:
                    self._start(self._waiting.popleft())
            elif share > OFTEN:
                self._limit = max(count // 2, self._processors)
            if self._waiting:
                self._look_later()

    # A thread

    def _run(self, one: _Thread) -> None:
        one.number = threading.get_native_id()
        self._begin()
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
