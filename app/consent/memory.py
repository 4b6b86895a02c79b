"""What upstream said to whom, for as long as it counts. Pure: the clock is an argument.

A yes counts for `--consent-ttl`, a no for a while shorter: a client that was let in meanwhile is not to wait for minutes, and one
that is turned away again and again is not to have upstream asked each time. A yes that was for everybody is kept beyond its
time, for when upstream can not be reached: what anybody could have is no secret within the hour.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from app.content.validator import Validator

CONSENTS_MAX = 16_384
"""What was learnt longest ago is forgotten beyond that. About 600 bytes each, so 10 MiB; `bench/consent.py` measures it."""

REFUSED_SECONDS = 30.0
PUBLIC_WHILE_AWAY_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Given:
    """Upstream gives it, of this size in bytes and version. What a digest names has no other version."""

    size: int | None
    validator: Validator | None = None


@dataclass(frozen=True, slots=True)
class Withheld:
    """Upstream answered 401 or 403, with this `WWW-Authenticate`."""

    status: int
    challenge: str | None


Word = Given | Withheld


class ConsentMemory:
    """Words by seal. At most `limit` of them."""

    def __init__(self, ttl_seconds: float, *, clock: Callable[[], float], limit: int = CONSENTS_MAX) -> None:
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._limit = limit
        self._words: OrderedDict[bytes, tuple[float, Word]] = OrderedDict()

    def get(self, seal: bytes) -> Word | None:
        """Upstream's word, while it counts."""
        said_at, word = self._words.get(seal, (0.0, None))
        if word is None:
            return None
        counts_seconds = self._ttl_seconds
        if isinstance(word, Withheld):
            counts_seconds = min(counts_seconds, REFUSED_SECONDS)
        return word if self._clock() - said_at < counts_seconds else None

    def while_away(self, seal: bytes) -> Given | None:
        """A yes of the last hour, which is to be asked for with the seal of nobody's credential only."""
        said_at, word = self._words.get(seal, (0.0, None))
        if isinstance(word, Given) and self._clock() - said_at < max(self._ttl_seconds, PUBLIC_WHILE_AWAY_SECONDS):
            return word
        return None

    def put(self, seal: bytes, word: Word, *, said_at: float) -> None:
        """Remember what upstream said when it was asked at `said_at`, on this memory's clock."""
        self._words[seal] = said_at, word
        self._words.move_to_end(seal)
        while len(self._words) > self._limit:
            self._words.popitem(last=False)

    def forget(self, seal: bytes) -> None:
        """Upstream took its word back."""
        self._words.pop(seal, None)

    def now(self) -> float:
        """The time on this memory's clock."""
        return self._clock()

    def __len__(self) -> int:
        return len(self._words)
