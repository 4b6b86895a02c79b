"""Leave to fetch a chunk from upstream by oneself, given by its home where the home lacks the credential. Pure.

Still one copy: the home sends everybody else to the one who has leave. A client's credential stays on its own node.
"""

from collections.abc import Callable

LEASE_SECONDS = 5.0
LEASES_MAX = 10_000


class Leases:
    """Who fetches what by himself."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._granted: dict[tuple[str, int], tuple[str, float]] = {}

    def grant(self, content: str, chunk: int, member: str) -> None:
        """The member has leave for a while."""
        if len(self._granted) >= LEASES_MAX:
            now = self._clock()
            self._granted = {key: lease for key, lease in self._granted.items() if lease[1] > now}
        self._granted[content, chunk] = member, self._clock() + LEASE_SECONDS

    def holder(self, content: str, chunk: int) -> str | None:
        """Who has leave now."""
        member, until = self._granted.get((content, chunk), (None, 0.0))
        return member if until > self._clock() else None
