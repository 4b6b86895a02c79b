"""How eager replication is, and how much of anything there may be at most."""

from __future__ import annotations

import math
from dataclasses import dataclass

ROUNDS_OF_1000 = 5
"""In so many rounds news reaches 1,000 members, each of which tells it to 4."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How eager, and how much at most."""

    interval_s: float = 0.2
    """Between two rounds of telling, in a cluster of 1,000 or more; see `interval_between`. Shorter spreads faster and sends more,
    smaller messages."""
    fanout: int = 4
    rounds: int = 2
    """Each piece of news is told to fanout * rounds members. Of all members about e^-(fanout * rounds) miss it, whatever
    their number (0.03 % at 8); bytes grow in proportion."""
    partners: int = 16
    """Members that rumours are told to; one is changed every partner_s. More means more open connections."""
    partner_s: float = 20.0
    exchange_s: float = 2.0
    """Between two push/pulls that this member opens. What rumours missed is found within two or three of them."""
    exchange_soon_s: float = 0.25
    """The same, while whole filters are known to be missing."""
    want_s: float = 1.0
    """How long an answer is waited for before somebody else may be asked for the same filter."""
    want_filters: int = 128
    """Filters asked of one member at once: one who joins spreads its asking over several."""
    early_s: float = 0.3
    """How long a delta waits for the one before it, before that is asked for."""
    early_deltas: int = 4096
    away_s: float = 300.0
    """How long the filter of a member that failed is kept, out of the index, in case it comes back in the same life."""
    departed: int = 4096
    """Lives of which it is remembered that they said farewell."""
    message_bytes: int = 64 << 10
    answer_bytes: int = 256 << 10
    answers: int = 4
    """Messages of answer_bytes that one Want may be answered with; the asker asks again for the rest."""

    def interval_between(self, others: int) -> float:
        """Seconds between two rounds where there are so many other members: news reaches all after as long in any cluster.

        One that tells it to `fanout` others is one of `fanout + 1` that know it, so it takes log(members) / log(fanout + 1) rounds:
        of few members each may gather its news for longer.
        """
        rounds = max(2, math.ceil(math.log(others + 1, self.fanout + 1)))
        return self.interval_s * max(1.0, ROUNDS_OF_1000 / rounds)
