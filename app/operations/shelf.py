"""Jobs by their id: a bounded number that run, and those that ended, remembered for a while."""

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

RUNNING_MAX = 8
ENDED_MAX = 100
REMEMBERED_SECONDS = 3600.0


class _Job(Protocol):
    @property
    def ended(self) -> bool:
        """Whether it runs no more."""


Job = TypeVar("Job", bound=_Job)


class Full(Exception):
    """As many jobs as may run do."""


class Shelf(Generic[Job]):
    """Jobs, oldest first. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._ended_at: dict[str, float] = {}

    def put(self, identity: str, job: Job) -> None:
        """One more job. Raises Full."""
        self._tidy()
        if len(self._jobs) - len(self._ended_at) >= RUNNING_MAX:
            raise Full(f"{RUNNING_MAX} preheats run already")
        self._jobs[identity] = job

    def get(self, identity: str) -> Job | None:
        """A job that runs or ended lately."""
        self._tidy()
        return self._jobs.get(identity)

    def _tidy(self) -> None:
        now = self._clock()
        for identity, job in self._jobs.items():
            if job.ended:
                self._ended_at.setdefault(identity, now)
        for identity in list(self._forgettable(now)):
            del self._jobs[identity], self._ended_at[identity]

    def _forgettable(self, now: float) -> Iterator[str]:
        surplus = len(self._ended_at) - ENDED_MAX
        for place, (identity, ended_at) in enumerate(self._ended_at.items()):
            if place < surplus or now - ended_at > REMEMBERED_SECONDS:
                yield identity
