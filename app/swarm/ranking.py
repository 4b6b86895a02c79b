"""The order in which members are asked for a chunk, and what is remembered of their conduct. Pure.

Same zone first; then those that are not known to fail; then those that serve us least right now, so that a node spreads its
questions; what is equal is decided by chance, so that nodes spread over members.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from peerd_gossip import Member

FAILURE_SECONDS = 2.0
"""How long a member is not asked after it failed once; doubled with each failure in a row, up to FAILURE_SECONDS_MAX."""

FAILURE_SECONDS_MAX = 60.0
LIE_SECONDS = 60.0
DENIAL_SECONDS = 5.0
"""How long a member that did not have it after all is not asked for the same again."""

DENIALS_MAX = 10_000


@dataclass(slots=True)
class _Record:
    failures: int = 0
    asked_again_at: float = 0.0
    under_way: int = 0


class Conduct:
    """What one node remembers of the members that it asked. Forgiven with time."""

    def __init__(self, clock: Callable[[], float], rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._records: defaultdict[str, _Record] = defaultdict(_Record)
        self._denials: dict[tuple[str, str], float] = {}

    def order(self, members: Iterable[Member], what: str, *, zone: str) -> list[Member]:
        """Those of `members` that are worth asking for `what`, best first."""
        now = self._clock()
        worth_asking = [
            member
            for member in members
            if self._records[member.name].asked_again_at <= now and self._denials.get((member.name, what), 0.0) <= now
        ]
        return sorted(
            worth_asking,
            key=lambda member: (member.zone != zone, self._records[member.name].under_way, self._rng.random()),
        )

    def begin(self, member: Member) -> None:
        """A request to it is under way."""
        self._records[member.name].under_way += 1

    def end(self, member: Member) -> None:
        """That request has ended."""
        self._records[member.name].under_way -= 1

    def served(self, member: Member) -> None:
        """It gave what it was asked for."""
        record = self._records[member.name]
        record.failures, record.asked_again_at = 0, 0.0

    def failed(self, member: Member) -> None:
        """It could not be reached, broke off, or stalled."""
        record = self._records[member.name]
        record.asked_again_at = self._clock() + min(FAILURE_SECONDS * 2**record.failures, FAILURE_SECONDS_MAX)
        record.failures += 1

    def lied(self, member: Member) -> None:
        """It sent what can not be true."""
        self._records[member.name].asked_again_at = self._clock() + LIE_SECONDS

    def denied(self, member: Member, what: str) -> None:
        """Its filter said so, but it does not have `what`."""
        if len(self._denials) >= DENIALS_MAX:
            now = self._clock()
            self._denials = {key: until for key, until in self._denials.items() if until > now}
            if len(self._denials) >= DENIALS_MAX:
                self._denials.clear()
        self._denials[member.name, what] = self._clock() + DENIAL_SECONDS
