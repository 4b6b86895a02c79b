"""Virtual time: what happens next, and nothing in between."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any


class Events:
    """A heap of calls to come. The same calls are made in the same order in every run."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = count()

    def clock(self) -> float:
        """The time, for what takes a clock."""
        return self.now

    def at(self, when: float, call: Callable[..., None], *args: Any) -> None:
        """Have `call(*args)` made at that time, in seconds."""
        heappush(self._heap, (when, next(self._numbers), call, args))

    def after(self, delay: float, call: Callable[..., None], *args: Any) -> None:
        """Have it made so many seconds from now."""
        heappush(self._heap, (self.now + delay, next(self._numbers), call, args))

    def run(self, finished: Callable[[], bool], *, until: float) -> None:
        """Make calls until all is `finished`, or nothing is left to happen by that time."""
        heap = self._heap
        while heap and not finished():
            when, _, call, args = heappop(heap)
            if when > until:
                return
            self.now = when
            call(*args)
