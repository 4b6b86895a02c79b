"""A client's way out that needs no event loop: the thread that has just written a piece of a chunk sends it, too.

Otherwise each piece wakes the loop, which makes the same system call later, and Python's lock goes from thread to thread twice for it. With
several chunks on their way the waiting for that lock was what limited them: `python -m bench.dataplane cold`.

Owns: who may send. From a lead's beginning to its end a thread may, under the lead's lock; before and after that the event loop may.
"""

import threading
from collections.abc import Callable
from typing import Protocol

from app.content.descriptor import Slice
from app.content.source import SourceKind


class Outlet(Protocol):
    """The body of one answer, as far as its client takes it at once."""

    @property
    def is_open(self) -> bool:
        """Whether bytes may go out here now; asked on the event loop."""

    def take(self, part: Slice) -> int:
        """Send the beginning of `part`, and say how many bytes of it went; 0: the event loop has to see to it.

        From any thread, one at a time. Never waits and never raises: why nothing goes is seen by who sends there next.
        """

    def went_out(self, kind: SourceKind, count: int) -> None:
        """So many bytes were taken; told on the event loop, later."""


class Lead:
    """One stretch of a body, from `position` on up to `stop`, in the hands of the thread that brings it.

    Attributes:
        position: of the content; up to here it went out.
        is_over: nothing more is sent: the outlet took no more at once, or the event loop took it back.
    """

    __slots__ = ("_kind", "_lock", "_outlet", "_start", "is_over", "position", "stop")

    def __init__(self, outlet: Outlet, position: int, stop: int) -> None:
        self.position = self._start = position
        self.stop = stop
        self.is_over = False
        self._kind = SourceKind.UPSTREAM
        self._outlet = outlet
        self._lock = threading.Lock()

    def go_on(self, released: int, cut: Callable[[int, int], Slice]) -> None:
        """Send what there is up to `released`; `cut` gives the slice from one position to another."""
        with self._lock:
            stop = min(released, self.stop)
            while not self.is_over and self.position < stop:
                part = cut(self.position, stop)
                took = self._outlet.take(part)
                self._kind = part.kind
                self.position += took
                self.is_over = not took

    def end(self) -> int:
        """Take it back: no thread sends from here on. Returns up to where all went out."""
        with self._lock:  # Held by a thread for as long as a system call that does not wait.
            self.is_over = True
        if self.position > self._start:
            self._outlet.went_out(self._kind, self.position - self._start)
        return self.position
