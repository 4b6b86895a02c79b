"""What is under way on a simulated node: contents, fetches of chunks, and requests to members."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.swarm.asking import Answer, Question, Role
from app.swarm.hedging import Watch
from app.swarm.simulation.network import SimulatedContent, Transfer

if TYPE_CHECKING:
    from app.swarm.simulation.node import Node


Told = tuple[int | None, int]
"""What a member says of itself with each answer: its bit field of the content, and how many chunks it is sending."""


@dataclass(slots=True)
class Holding:
    """One content on one node, where it was `begun` as so manieth."""

    content: SimulatedContent
    bits: int = 0
    pending: int = 0
    begun: int = 0


@dataclass(slots=True, eq=False)
class Flight:
    """One fetch for all who wait for a chunk: of `main`, and of another member beside it where that one is slow."""

    holding: Holding
    chunk: int
    awaited: bool
    question: Question | None = None
    waiters: list[Callable[[bool], None]] = field(default_factory=list)
    main: "Request | None" = None
    requests: "list[Request]" = field(default_factory=list)
    hedges: int = 0
    outcome: tuple[str, Answer, Sequence[str], int] | None = None
    from_upstream: Transfer | None = None

    @property
    def received(self) -> int:
        """Bytes that have come so far."""
        if self.from_upstream is not None:
            return self.from_upstream.received
        return self.main.received if self.main is not None else 0


@dataclass(slots=True, eq=False)
class Request:
    """One member asking another for a chunk."""

    asker: "Node"
    server: "Node"
    flight: Flight
    role: Role
    sent_at: float
    without: frozenset[str]
    watch: Watch
    transfer: Transfer | None = None
    done: bool = False

    @property
    def received(self) -> int:
        """Bytes that have come so far."""
        return 0 if self.transfer is None else self.transfer.received
