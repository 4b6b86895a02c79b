"""When a member that is sending a chunk, or should be, has kept this node waiting for too long. Pure.

Two thresholds. A request that takes several times as long as requests usually do is *slow*: another member that has the chunk is asked
for the rest beside it, and whoever is done first wins ("The tail at scale", Dean and Barroso, 2013: hedged requests). A request in which
no byte comes for a second has *stalled*: it is given up, and its member is left alone for a while.

Time is counted in looks. A process that was late itself, because its machine is overloaded, did not look, and holds that time against
nobody: else many nodes on a busy machine would take each other for dead, and go upstream.
"""

from enum import Enum

LOOK_SECONDS = 0.1
"""How often somebody looks at a request that is under way."""

STALL_SECONDS = 1.0
"""A member that sends no byte for so long is left for another."""

SLOW_SECONDS_MIN = 0.2
SLOW_TIMES = 3
"""A request that takes so many times as long as usual, and more than SLOW_SECONDS_MIN, is hedged."""

HEDGES_MAX = 6
"""How many others are asked beside one that is slow, one after the other: each may be busy."""


class Verdict(Enum):
    """What is to be made of a request."""

    GOING = "going"
    SLOW = "slow"
    STALLED = "stalled"


class Watch:
    """One request under way, begun at `now`. `usual` is how long one of its size usually takes; None: nobody knows.

    All times in seconds, of one clock.
    """

    __slots__ = ("_looked_at", "_received", "_silent", "_slow_after", "waited")

    def __init__(self, usual: float | None, now: float) -> None:
        self.waited = 0.0
        self._slow_after = STALL_SECONDS if usual is None else max(SLOW_SECONDS_MIN, SLOW_TIMES * usual)
        self._looked_at = now
        self._silent = 0.0
        self._received = 0

    def look(self, received: int, now: float) -> Verdict:
        """How it is at `now`, with so many bytes received in all. To be called each LOOK_SECONDS."""
        elapsed = min(now - self._looked_at, 2 * LOOK_SECONDS)
        self._looked_at = now
        self.waited += elapsed
        self._silent = 0.0 if received > self._received else self._silent + elapsed
        self._received = received
        if self._silent >= STALL_SECONDS - LOOK_SECONDS / 2:
            return Verdict.STALLED
        return Verdict.SLOW if self.waited >= self._slow_after else Verdict.GOING
