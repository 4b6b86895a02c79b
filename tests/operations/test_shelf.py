"""Jobs are bounded and forgotten."""

from dataclasses import dataclass

import pytest

from app.operations.shelf import ENDED_MAX, REMEMBERED_SECONDS, RUNNING_MAX, Full, Shelf


@dataclass
class Job:
    ended: bool = False


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def test_no_more_run_than_may() -> None:
    shelf: Shelf[Job] = Shelf(Clock())
    jobs = [Job() for _ in range(RUNNING_MAX)]
    for number, job in enumerate(jobs):
        shelf.put(str(number), job)
    with pytest.raises(Full):
        shelf.put("more", Job())
    jobs[0].ended = True
    shelf.put("more", Job())
    assert shelf.get("more") is not None


def test_one_that_ended_is_remembered_for_a_while() -> None:
    clock = Clock()
    shelf: Shelf[Job] = Shelf(clock)
    shelf.put("a", job := Job())
    job.ended = True
    assert shelf.get("a") is job
    clock.now = REMEMBERED_SECONDS
    assert shelf.get("a") is job
    clock.now += 1
    assert shelf.get("a") is None


def test_one_that_runs_is_never_forgotten() -> None:
    clock = Clock()
    shelf: Shelf[Job] = Shelf(clock)
    shelf.put("a", job := Job())
    clock.now = 10 * REMEMBERED_SECONDS
    assert shelf.get("a") is job


def test_of_too_many_that_ended_the_oldest_are_forgotten() -> None:
    shelf: Shelf[Job] = Shelf(Clock())
    for number in range(ENDED_MAX + 2):
        shelf.put(str(number), Job(ended=True))
    assert shelf.get("0") is None
    assert shelf.get("1") is None
    assert shelf.get("2") is not None
