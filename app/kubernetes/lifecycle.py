"""Which event is due when: a node's life as Kubernetes is told of it. Pure.

    initializing ──> connected <──> disconnected        connected, as: with members, or alone
          └───────────> left, failed <──────┘           nothing follows them

The reasons are Azure/peerd's, so that what waits for them goes on working. What they say is meant here: *connected* is said when
another member's filter has come, or when there was nobody to get one from; *active* when bytes that a peer sent have reached a
client. There, both were said of what was about to be tried.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Literal

ALONE_SECONDS = 30.0
"""How long a node without members waits for one before it says that it serves alone."""

NAMED_MAX = 3
"""How many members a message names."""


class Reason(StrEnum):
    """Azure/peerd's reasons."""

    INITIALIZING = "P2PInitializing"
    CONNECTED = "P2PConnected"
    ACTIVE = "P2PActive"
    DISCONNECTED = "P2PDisconnected"
    FAILED = "P2PFailed"


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something to tell; `detail` is what Azure/peerd's message of this reason does not say."""

    reason: Reason
    kind: Literal["Normal", "Warning"]
    detail: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What is so now. `alive`: names of the other live members; `exchanged`: those of whom the filter is here.

    `from_peers`: bytes that came from other members and were sent to this node's clients, since the start.
    """

    alive: frozenset[str]
    exchanged: frozenset[str]
    from_peers: int


class _State(Enum):
    INITIALIZING = "not connected yet"
    ALONE = "connected, with no other member"
    CONNECTED = "connected to members"
    DISCONNECTED = "without the members that it had"
    LEFT = "left"
    FAILED = "failed"


class Lifecycle:
    """One life of one node. `now` is monotonic, in seconds."""

    def __init__(self) -> None:
        self._state = _State.INITIALIZING
        self._alone_since: float | None = None
        self._active = False

    def __repr__(self) -> str:
        return f"Lifecycle({self._state.value})"

    def starts(self) -> Occurrence:
        """The process has begun to make a node."""
        return Occurrence(Reason.INITIALIZING, "Normal", "")

    def observe(self, facts: Facts, *, now: float) -> list[Occurrence]:
        """What is to be told of a node that serves, in this order."""
        if self._state in (_State.LEFT, _State.FAILED):
            return []
        return [
            one
            for one in (self._connects(facts, now), self._becomes_active(facts), self._disconnects(facts))
            if one is not None
        ]

    def _connects(self, facts: Facts, now: float) -> Occurrence | None:
        if self._state is _State.CONNECTED:
            return None
        if met := facts.exchanged & facts.alive:
            self._state = _State.CONNECTED
            return Occurrence(Reason.CONNECTED, "Normal", f"filters exchanged with {_named(met)}")
        if self._state is not _State.INITIALIZING:
            return None
        if facts.alive:
            self._alone_since = None  # somebody is there: their filter is worth waiting for
            return None
        if self._alone_since is None:
            self._alone_since = now
        if now - self._alone_since < ALONE_SECONDS:
            return None
        self._state = _State.ALONE
        return Occurrence(
            Reason.CONNECTED, "Normal", f"no other member within {ALONE_SECONDS:.0f} s, it serves alone until one comes"
        )

    def _becomes_active(self, facts: Facts) -> Occurrence | None:
        if self._active or self._state is not _State.CONNECTED or facts.from_peers <= 0:
            return None
        self._active = True
        return Occurrence(Reason.ACTIVE, "Normal", "bytes of a peer have reached a client")

    def _disconnects(self, facts: Facts) -> Occurrence | None:
        if self._state is not _State.CONNECTED or facts.alive:
            return None
        self._state = _State.DISCONNECTED
        return Occurrence(Reason.DISCONNECTED, "Warning", "all other members are gone, it serves alone until one comes")

    def leaves(self) -> Occurrence | None:
        """The node was told to leave: no warning, as it was meant. Nothing is said of one that was not connected."""
        was, self._state = self._state, _State.LEFT
        if was in (_State.CONNECTED, _State.ALONE):
            return Occurrence(Reason.DISCONNECTED, "Normal", "it was told to end")
        return None

    def fails(self, why: str) -> Occurrence | None:
        """The node can not start, or ends by an error. Said once."""
        was, self._state = self._state, _State.FAILED
        return None if was is _State.FAILED else Occurrence(Reason.FAILED, "Warning", why)


def _named(members: Collection[str]) -> str:
    names = sorted(members)
    more = len(names) - NAMED_MAX
    return ", ".join(names[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
