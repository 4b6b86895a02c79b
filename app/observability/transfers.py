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
    by_source: dict[SourceKind, int] = field(default_factory=lambda: dict.fromkeys(SourceKind, 0))

    def rate(self, now: float) -> float:
        """Bytes a second, over its whole life."""
        took = (self.ended_at or now) - self.started_at
        return self.done / took if took > 0 else 0.0


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
        one = Transfer(str(next(self._numbers)), key, kind, door, total, correlation_id, self.clock())
        self._running[one.id] = one
        try:
            yield one
            one.state = "finished"
        except BaseException:
            one.state = "broken"
            raise
        finally:
            one.ended_at = self.clock()
            del self._running[one.id]
            self._ended.appendleft(one)

    def sent(self, transfer: Transfer, kind: SourceKind, count: int) -> None:
        """Bytes went out to the client."""
        transfer.state = "running"
        transfer.done += count
        transfer.by_source[kind] += count
        self._sent(kind, count)
