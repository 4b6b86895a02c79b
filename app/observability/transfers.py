"""What is being sent to this node's clients now, and what lately was. For `peerd status` and the page."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from app.content.source import SourceKind

ENDED_MAX = 50
"""How many ended transfers are remembered."""

RATE_SECONDS = 5.0
"""Over how long the rate of a transfer that is under way is taken."""

_MARKS = 10
_MARK_SECONDS = RATE_SECONDS / _MARKS
_NOTHING = dict.fromkeys(SourceKind, 0)


@dataclass(slots=True)
class Transfer:
    """One answer to one client. Sizes in bytes."""

    id: str
    key: str
    kind: Literal["blob", "manifest", "file"]
    door: Literal["mirror", "files"]
    total: int | None
    correlation_id: str
    started_at: float
    state: Literal["waiting", "running", "finished", "broken"] = "waiting"
    done: int = 0
    ended_at: float | None = None
    by_source: dict[SourceKind, int] = field(default_factory=_NOTHING.copy)
    # When, and how much had been done then: one mark each _MARK_SECONDS in which anything was sent.
    _marks: list[tuple[float, int]] = field(default_factory=list)

    def advance(self, kind: SourceKind, count: int, now: float) -> None:
        """So many bytes went out, at `now`."""
        if not self._marks or now - self._marks[-1][0] >= _MARK_SECONDS:
            self._marks.append((now, self.done))
            if len(self._marks) > _MARKS + 1:
                del self._marks[0]
        self.done += count
        self.by_source[kind] += count

    def rate(self, now: float) -> float:
        """Bytes a second: over the last RATE_SECONDS, or, of one that has ended, over its whole life."""
        if self.ended_at is not None:
            return _per_second(self.done, self.ended_at - self.started_at)
        since = max(self.started_at, now - RATE_SECONDS)
        before = next((done for at, done in self._marks if at >= since), self.done)
        return _per_second(self.done - before, now - since)


class Transfers:
    """Transfers under way, and the last that ended."""

    def __init__(self, *, sent: Callable[[SourceKind, int], None], clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self._sent = sent
        self._numbers = itertools.count(1)
        self._running: dict[str, Transfer] = {}
        self._ended: deque[Transfer] = deque(maxlen=ENDED_MAX)

    def __iter__(self) -> Iterator[Transfer]:
        yield from list(self._running.values())
        yield from list(self._ended)

    def __len__(self) -> int:
        return len(self._running)

    @contextmanager
    def transfer(
        self,
        key: str,
        *,
        kind: Literal["blob", "manifest", "file"],
        door: Literal["mirror", "files"],
        total: int | None,
        correlation_id: str,
    ) -> Iterator[Transfer]:
        """One transfer's life: broken off unless it is left without an error."""
        one = self.begin(key, kind=kind, door=door, total=total, correlation_id=correlation_id)
        try:
            yield one
        except BaseException:
            self.end(one, whole=False)
            raise
        self.end(one, whole=True)

    def begin(
        self,
        key: str,
        *,
        kind: Literal["blob", "manifest", "file"],
        door: Literal["mirror", "files"],
        total: int | None,
        correlation_id: str,
    ) -> Transfer:
        """One transfer, to be ended with `end`."""
        one = Transfer(str(next(self._numbers)), key, kind, door, total, correlation_id, self.clock())
        self._running[one.id] = one
        return one

    def end(self, one: Transfer, *, whole: bool) -> None:
        """All of it was sent, or it was broken off."""
        one.state = "finished" if whole else "broken"
        one.ended_at = self.clock()
        del self._running[one.id]
        self._ended.appendleft(one)

    def sent(self, transfer: Transfer, kind: SourceKind, count: int) -> None:
        """Bytes went out to the client."""
        transfer.state = "running"
        transfer.advance(kind, count, self.clock())
        self._sent(kind, count)


def _per_second(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
