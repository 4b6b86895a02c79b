"""Leave to fetch a chunk, given by its home to the first who asks. Pure.

One copy, and it goes straight to who wanted it: the home sends everybody else to the one who has leave. What the home does not
hear of again is not held against anybody: leave ends after a while, or when an asker says that its holder failed, and the next
one gets it.
"""

from collections.abc import Callable, Collection

LEASE_SECONDS = 3.0
"""What is lost, at the most, when whoever has leave dies or is slow; a chunk takes a tenth of it on a slow link."""

LEASES_MAX = 50_000


class Leases:
    """Who fetches which chunk, by the name that all members call its content, and its first byte."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._granted: dict[tuple[str, int], tuple[str, float]] = {}

    def ask(self, content: str, start: int, asker: str, *, without: Collection[str] = ()) -> str:
        """Who has leave: the asker from now on, unless somebody else has it who is not named in `without`."""
        lessee = self.lessee(content, start)
        if lessee is not None and lessee not in without:
            return lessee
        if len(self._granted) >= LEASES_MAX:
            now = self._clock()
            self._granted = {key: lease for key, lease in self._granted.items() if lease[1] > now}
        self._granted[content, start] = asker, self._clock() + LEASE_SECONDS
        return asker

    def lessee(self, content: str, start: int) -> str | None:
        """Who has leave now."""
        member, until = self._granted.get((content, start), (None, 0.0))
        return member if until > self._clock() else None
