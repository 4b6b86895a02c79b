"""Lines and upstream: how long bytes take.

A line carries one chunk after the other, each at its full rate: store and forward. Real uploads share a line, so each chunk takes
longer and as many are through by the end; the order in which they arrive is the difference (docs/swarm.md).
"""

from collections import Counter
from dataclasses import dataclass, field

from app.swarm.simulation.events import Events

CHUNK_SIZE_BYTES = 1 << 20
LATENCY_SECONDS = 0.001
"""One way."""

NODE_BYTES_PER_S = 125e6
UPSTREAM_BYTES_PER_S = 1.25e9


@dataclass(frozen=True, slots=True)
class SimulatedContent:
    """What is pulled."""

    name: str
    chunks: int

    @property
    def every(self) -> int:
        """The bit field of the whole."""
        return (1 << self.chunks) - 1


@dataclass(slots=True)
class Line:
    """One direction of one node's line."""

    bytes_per_s: float
    free_at: float = 0.0

    def carry(self, earliest: float) -> float:
        """When the next chunk is through; it begins not before `earliest`."""
        self.free_at = max(earliest, self.free_at) + CHUNK_SIZE_BYTES / self.bytes_per_s
        return self.free_at


@dataclass(slots=True)
class Upstream:
    """The registry, and what it was asked for."""

    events: Events
    line: Line = field(default_factory=lambda: Line(UPSTREAM_BYTES_PER_S))
    sent: Counter[tuple[str, int]] = field(default_factory=Counter)
    fetching: dict[tuple[str, int], set[str]] = field(default_factory=dict)
    doubles: list[tuple[str, int]] = field(default_factory=list)
    """Chunks that were asked for while another member was being sent them."""

    def send(self, content: str, chunk: int, member: str, into: Line) -> float:
        """When the chunk will be on its node."""
        key = content, chunk
        now = self.events.now + LATENCY_SECONDS
        self.sent[key] += 1
        asking = self.fetching.setdefault(key, set())
        if asking - {member}:
            self.doubles.append(key)
        asking.add(member)
        return max(self.line.carry(now), into.carry(now)) + LATENCY_SECONDS

    def ended(self, content: str, chunk: int, member: str) -> None:
        """The member has it, or died."""
        asking = self.fetching.get((content, chunk), set())
        asking.discard(member)
        if not asking:
            self.fetching.pop((content, chunk), None)
