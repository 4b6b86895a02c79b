"""How much a node sends to other members at once, and whom a busy one names instead. Pure.

A chunk is worth passing on only when it is whole, so a few that are sent quickly spread further than many that are sent slowly:
`SENDING_AT_ONCE` go out together. As many more wait as are sent within a moment, so that a line never idles and no more is promised
than it can keep: a node with a slow line promises less. Everybody else is told at once that this node is busy, and which members lately
got the same chunk.
"""

from collections import OrderedDict
from collections.abc import Callable

SENDING_AT_ONCE = 8

QUEUE_SECONDS_MAX = 0.08
"""No more is admitted than is sent in so long, at the pace of late; but UNDER_WAY_MIN in any case."""

UNDER_WAY_MIN = 2

ALTERNATES_MAX = 4
GIFTS_KEPT_MAX = 8
CHUNKS_KEPT_MAX = 1024


class Admission:
    """Uploads of one node. Sizes in bytes, times in seconds."""

    def __init__(
        self,
        *,
        uploads_max: int,
        rate_max: float | None,
        clock: Callable[[], float],
        queue_seconds_max: float = QUEUE_SECONDS_MAX,
    ) -> None:
        self.under_way = 0
        self._uploads_max = uploads_max
        self._queue_seconds_max = queue_seconds_max
        self._rate_max = rate_max
        self._clock = clock
        self._pace = 0.0
        self._busy_since = 0.0
        self._allowance = rate_max or 0.0
        self._allowance_at = clock()
        self._given: OrderedDict[tuple[str, int], tuple[str, ...]] = OrderedDict()

    def admit(self, size: int) -> bool:
        """Whether one more upload of `size` bytes may begin, or wait its turn; if so it counts from now on."""
        if self.under_way >= self._uploads_max:
            return False
        if self.under_way >= UNDER_WAY_MIN and (self.under_way + 1) * self._pace > self._queue_seconds_max:
            return False
        if not self._allows(size):
            return False
        if not self.under_way:
            self._busy_since = self._clock()
        self.under_way += 1
        return True

    def ended(self) -> None:
        """An upload has ended, one way or the other."""
        now = self._clock()
        self.under_way -= 1
        # How often an upload ends while there are any: how fast those that wait move up.
        took = now - self._busy_since
        self._pace += (took - self._pace) / (8 if self._pace else 1)
        self._busy_since = now

    def gave(self, content: str, chunk: int, member: str) -> None:
        """The member has got the chunk."""
        key = content, chunk
        others = [name for name in self._given.pop(key, ()) if name != member]
        self._given[key] = (member, *others[: GIFTS_KEPT_MAX - 1])
        if len(self._given) > CHUNKS_KEPT_MAX:
            self._given.popitem(last=False)

    def alternates(self, content: str, chunk: int, asker: str) -> list[str]:
        """Members that lately got the chunk from here, the latest first."""
        return [name for name in self._given.get((content, chunk), ()) if name != asker][:ALTERNATES_MAX]

    def _allows(self, size: int) -> bool:
        """A bucket that holds one second's bytes and may be overdrawn by one chunk."""
        if self._rate_max is None:
            return True
        now = self._clock()
        self._allowance = min(self._rate_max, self._allowance + (now - self._allowance_at) * self._rate_max)
        self._allowance_at = now
        if self._allowance <= 0:
            return False
        self._allowance -= size
        return True
