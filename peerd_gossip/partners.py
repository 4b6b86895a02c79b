"""The few members that rumours are told to. Chosen at random; kept for a while, as each is an open connection."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence

from peerd_gossip.member import MemberId


class Partners:
    """At most `number` of the other live members. Pure; `others` has no member twice."""

    def __init__(self, number: int, rng: random.Random) -> None:
        self._number = number
        self._rng = rng
        self._chosen: list[MemberId] = []

    def __iter__(self) -> Iterator[MemberId]:
        return iter(self._chosen)

    def sample(self, fanout: int) -> list[MemberId]:
        """A few of them."""
        return self._rng.sample(self._chosen, min(fanout, len(self._chosen)))

    def keep(self, live: Collection[MemberId], others: Sequence[MemberId]) -> None:
        """These are the others now: who is not among them is replaced."""
        self._chosen = [member for member in self._chosen if member in live]
        self._fill(others)

    def drop(self, member: MemberId, others: Sequence[MemberId]) -> None:
        """This one is gone."""
        if member in self._chosen:
            self._chosen.remove(member)
            self._fill(others)

    def change(self, others: Sequence[MemberId]) -> None:
        """Replace the oldest, so that no member is cut off by the choice of others."""
        if len(self._chosen) < len(others):
            self._chosen.pop(0)
            self._fill(others)

    def _fill(self, others: Sequence[MemberId]) -> None:
        wanted = min(self._number, len(others))
        while len(self._chosen) < wanted:
            member = self._rng.choice(others)
            if member not in self._chosen:
                self._chosen.append(member)
