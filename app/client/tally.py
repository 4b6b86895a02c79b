"""How many bytes came, and where the node had them from.

The first byte's source is in each answer's headers; the whole account of an answer is in /api/v1/transfers, found by the
correlation id that we gave it. The account wins where the node still has it.
"""

import threading
from collections import Counter
from dataclasses import dataclass

from app.api.models import Transfer
from app.client.fetch import Fetched, Wanted


@dataclass(slots=True)
class _Answer:
    """One answer of the node."""

    first_source: str
    received: int = 0
    by_source: Counter[str] | None = None


class Tally:
    """A Watcher that counts. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[str, _Answer] = {}
        self._resumed = 0

    def began(self, wanted: Wanted, correlation_id: str, size: int | None, source: str) -> None:  # noqa: ARG002 - Watcher
        """An answer's headers are there."""
        with self._lock:
            self._answers[correlation_id] = _Answer(source)

    def received(self, wanted: Wanted, correlation_id: str, count: int) -> None:  # noqa: ARG002 - Watcher
        """More bytes are there."""
        with self._lock:
            self._answers[correlation_id].received += count

    def resumed(self, wanted: Wanted, offset: int, reason: str) -> None:  # noqa: ARG002 - Watcher
        """A body was gone on with."""
        with self._lock:
            self._resumed += 1

    def ended(self, fetched: Fetched) -> None:
        """Counted already."""

    def learn(self, transfers: list[Transfer]) -> None:
        """Take the node's own account of the answers that it gave us."""
        with self._lock:
            for transfer in transfers:
                if answer := self._answers.get(transfer.correlation_id):
                    answer.by_source = Counter(transfer.source_bytes.model_dump())

    @property
    def size(self) -> int:
        """Bytes received in all."""
        with self._lock:
            return sum(answer.received for answer in self._answers.values())

    @property
    def resumptions(self) -> int:
        """How often a body was gone on with."""
        return self._resumed

    def by_source(self) -> dict[str, int]:
        """Bytes by source; what the node did not account for (yet) counts for the source of its answer's first byte."""
        total: Counter[str] = Counter()
        with self._lock:
            for answer in self._answers.values():
                known = answer.by_source or Counter()
                total += known
                total[answer.first_source] += max(0, answer.received - known.total())
        return {source: count for source, count in total.items() if count}
