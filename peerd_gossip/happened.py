"""What replication tells of what it did: events for its driver, and counts."""

from __future__ import annotations

from dataclasses import dataclass

from peerd_gossip.member import MemberId


@dataclass(frozen=True, slots=True)
class FilterLearned:
    """A whole filter of this member was taken in."""

    member: MemberId


@dataclass(frozen=True, slots=True)
class FilterRefused:
    """This member's filter was set aside: why."""

    member: MemberId
    reason: str


@dataclass(frozen=True, slots=True)
class Departed:
    """This member said farewell."""

    member: MemberId


Event = FilterLearned | FilterRefused | Departed


@dataclass(slots=True)
class Counters:
    """What was sent and received, in deltas and filters."""

    deltas_sent: int = 0
    deltas_received: int = 0
    filters_sent: int = 0
    filters_received: int = 0
    keys_received: int = 0
    from_strangers: int = 0
