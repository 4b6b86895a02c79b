"""How much a node sends to other members at once, and whom a busy one names instead. Pure.

A chunk is worth passing on only when it is whole, so a few that are sent quickly spread further than many that are sent slowly:
`SENDING_AT_ONCE` go out together, a few more wait their turn, and whoever would wait longer than it takes to ask somebody else
is told so at once, with the members that lately got the same chunk.
"""

from collections import OrderedDict, deque
from collections.abc import Callable

SENDING_AT_ONCE = 4
WAIT_SECONDS_MAX = 0.3
"""Shorter than the second after which an asker takes a silent member for stalled."""

ALTERNATES_MAX = 4
REMEMBERED_GIFTS = 12
REMEMBERED_CHUNKS = 4096


class Admission:
    """Uploads of one node. Sizes in bytes, times in seconds."""

    def __init__(self, *, uploads_max: int, rate_max: float | None, clock: Callable[[], float]) -> None:
        self.under_way = 0
        self._uploads_max = uploads_max
        self._rate_max = rate_max
        self._clock = clock
        self._seconds_per_upload = 0.0
        self._allowance = rate_max or 0.0
        self._allowance_at = clock()
        self._given: OrderedDict[tuple[str, int], deque[str]] = OrderedDict()

    def admit(self, size: int) -> bool:
        """Whether one more upload of `size` bytes may begin, or wait its turn; if so it counts from now on."""
        waiting = max(0, self.under_way - SENDING_AT_ONCE)
        expected_wait = (waiting + 1) * self._seconds_per_upload / SENDING_AT_ONCE if waiting else 0.0
        if self.under_way >= self._uploads_max or expected_wait > WAIT_SECONDS_MAX or not self._allows(size):
            return False
        self.under_way += 1
        return True

    def ended(self, seconds: float) -> None:
        """An upload has ended, `seconds` after its first byte."""
        self.under_way -= 1
        self._seconds_per_upload += (seconds - self._seconds_per_upload) / 8

    def gave(self, content: str, chunk: int, member: str) -> None:
        """The member has got the chunk."""
        gifts = self._given.get((content, chunk))
        if gifts is None:
            gifts = self._given[content, chunk] = deque(maxlen=REMEMBERED_GIFTS)
            if len(self._given) > REMEMBERED_CHUNKS:
                self._given.popitem(last=False)
        gifts.append(member)

    def alternates(self, content: str, chunk: int, asker: str) -> list[str]:
        """Members that lately got the chunk from here, the latest first."""
        others = [name for name in reversed(self._given.get((content, chunk), ())) if name != asker]
        return list(dict.fromkeys(others))[:ALTERNATES_MAX]

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
