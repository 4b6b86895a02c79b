"""How many chunks this node has one upstream send at the same time. Pure.

Upstream's line is everybody's, and what it sends at one time shares it. The more that is, the later the first chunk is whole; until
then nobody has anything to give to the others, and their lines are idle. So few are asked for at once, as long as that keeps the line
busy:

* A node begins with two, as it can not know yet who else begins, and goes on with one more for each that came (slow start: Jacobson,
  "Congestion avoidance and control", 1988). After an idle moment it begins anew, as the next crowd may.
* A node that knows of others who are fetching the same has its share of what all of them ask for together.

What a client waits for is asked for at once, and counts.
"""

AT_ONCE_MIN = 2
"""One that comes while another is being asked for: a round trip is no pause."""

AT_ONCE_MAX = 8
"""What one node fetches at once from wherever it can be had (`content.prefetch`)."""

TOGETHER = 8
"""All who fetch the same, as long as there are not too many for their two each. A far upstream needs some to keep its line busy."""

IDLE_SECONDS = 1.0


class Window:
    """One upstream. All times in seconds, of one clock."""

    __slots__ = ("_grown", "_idle_since", "_under_way")

    def __init__(self) -> None:
        self._under_way = 0
        self._grown = AT_ONCE_MIN
        self._idle_since = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._under_way

    def has_room(self, others: int) -> bool:
        """Whether one more may be asked for that no client waits for; `others` are known to fetch the same content."""
        return self._under_way < max(AT_ONCE_MIN, min(self._grown, TOGETHER // (1 + others)))

    def begin(self, now: float) -> None:
        """A chunk is asked for."""
        if self.is_idle and now - self._idle_since > IDLE_SECONDS:
            self._grown = AT_ONCE_MIN
        self._under_way += 1

    def end(self, now: float, *, came: bool) -> None:
        """It came, or did not."""
        self._under_way -= 1
        self._idle_since = now
        if came:
            self._grown = min(AT_ONCE_MAX, self._grown + 1)
