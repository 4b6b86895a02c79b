"""Lines and upstream: how long bytes take.

A chunk travels in `PIECES` pieces. A sender's line gives the transfers that are under way their turns, one piece each, so they share
it evenly; of a node's, no more than the door sends at once, and the others wait. A receiver's line takes pieces in the order in which
they come. So both lines of a transfer are shared, no time of either is lost while it has something to carry, and a transfer goes at the
speed of the slower one. What is left out: a sender is not held back by a receiver that is slower than it, but by the end of the chunk, as
if the network had room for one chunk of each transfer.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from app.swarm.simulation.events import Events

CHUNK_SIZE_BYTES = 1 << 20
PIECES = 4
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


class Downlink:
    """What one node receives."""

    __slots__ = ("_free_at", "_piece_seconds", "bytes_per_s", "dead")

    def __init__(self, bytes_per_s: float) -> None:
        self.bytes_per_s = bytes_per_s
        self.dead = False
        self._piece_seconds = CHUNK_SIZE_BYTES / PIECES / bytes_per_s
        self._free_at = 0.0

    def carry(self, earliest: float) -> float:
        """When a piece is through that comes at `earliest`. Called in the order of time."""
        self._free_at = max(earliest, self._free_at) + self._piece_seconds
        return self._free_at


@dataclass(slots=True, eq=False)
class Transfer:
    """One chunk on its way; `arrived` is called when it is in, `lost` when the sender gives up on a receiver that is gone."""

    into: Downlink
    arrived: Callable[[], None]
    lost: Callable[[], None]
    left: int = PIECES
    begun: bool = False
    given_up: bool = False

    @property
    def received(self) -> int:
        """Bytes that have been sent so far."""
        return (PIECES - self.left) * (CHUNK_SIZE_BYTES // PIECES)


class Uplink:
    """What one node, or upstream, sends: `at_once` chunks share the line, the others wait (None: all share)."""

    __slots__ = ("_at_once", "_busy", "_events", "_patience", "_piece_seconds", "_turns", "_under_way", "_waiting")

    def __init__(
        self, events: Events, bytes_per_s: float, *, at_once: int | None = None, patience_seconds: float = 0.0
    ) -> None:
        self._events = events
        self._piece_seconds = CHUNK_SIZE_BYTES / PIECES / bytes_per_s
        self._at_once = at_once
        self._patience = patience_seconds
        self._turns: deque[Transfer] = deque()
        self._waiting: deque[Transfer] = deque()
        self._under_way = 0
        self._busy = False

    def send(self, transfer: Transfer) -> None:
        """Begin, or have it wait for its turn."""
        if self._at_once is not None and self._under_way >= self._at_once:
            self._waiting.append(transfer)
        else:
            self._begin(transfer)

    def give_up(self, transfer: Transfer) -> None:
        """Nobody wants the rest of it: what has not been sent stays here."""
        if not transfer.given_up:
            transfer.given_up = True
            if transfer.begun and transfer.left:
                self._end()

    def _begin(self, transfer: Transfer) -> None:
        transfer.begun = True
        self._under_way += 1
        self._turns.append(transfer)
        if not self._busy:
            self._next()

    def _next(self) -> None:
        while self._turns:
            transfer = self._turns.popleft()
            if not transfer.given_up:
                self._busy = True
                self._events.after(self._piece_seconds, self._sent, transfer)
                return
        self._busy = False

    def _sent(self, transfer: Transfer) -> None:
        """One piece has left."""
        if not transfer.given_up:
            if transfer.into.dead:
                # The network takes what fits into it; then nothing moves until the sender loses patience.
                self._events.after(self._patience, transfer.lost)
            else:
                through = transfer.into.carry(self._events.now + LATENCY_SECONDS)
                transfer.left -= 1
                if transfer.left:
                    self._turns.append(transfer)
                else:
                    self._events.at(through, self._delivered, transfer)
        self._next()

    def _delivered(self, transfer: Transfer) -> None:
        self._end()
        if not transfer.given_up:
            transfer.arrived()

    def _end(self) -> None:
        self._under_way -= 1
        while self._waiting and (self._at_once is None or self._under_way < self._at_once):
            waiting = self._waiting.popleft()
            if not waiting.given_up:
                self._begin(waiting)


@dataclass(slots=True)
class Upstream:
    """The registry, and what it was asked for. All that it sends at one time shares its line."""

    events: Events
    bytes_per_s: float = UPSTREAM_BYTES_PER_S
    line: Uplink = field(init=False)
    sent: Counter[tuple[str, int]] = field(default_factory=Counter)
    fetching: dict[tuple[str, int], set[str]] = field(default_factory=dict)
    doubles: list[tuple[str, int]] = field(default_factory=list)
    """Chunks that were asked for while another member was being sent them."""

    def __post_init__(self) -> None:
        self.line = Uplink(self.events, self.bytes_per_s)

    def send(self, content: str, chunk: int, member: str, into: Downlink, arrived: Callable[[], None]) -> Transfer:
        """Send a chunk to its member."""
        key = content, chunk
        self.sent[key] += 1
        asking = self.fetching.setdefault(key, set())
        if asking - {member}:
            self.doubles.append(key)
        asking.add(member)
        transfer = Transfer(into, arrived, lambda: self.line.give_up(transfer))
        self.events.after(LATENCY_SECONDS, self.line.send, transfer)
        return transfer

    def ended(self, content: str, chunk: int, member: str) -> None:
        """The member has it, or died."""
        asking = self.fetching.get((content, chunk), set())
        asking.discard(member)
        if not asking:
            self.fetching.pop((content, chunk), None)
