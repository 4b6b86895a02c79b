"""Leave to fetch a chunk, given by its home to the first who asks. Pure.

One copy, and it goes straight to who wanted it: the home sends everybody else to its lessee. Leave has no end of its own: who
had it has the chunk since, and is worth naming. An asker that finds it gone, or without the chunk, says so and is the next.

The home of all is also the home of its own zone. It gives leave to one member for all, who asks upstream, and to one of its own
zone, who fetches from the first where that one is in another zone: so a chunk comes into this zone once as well.
"""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

LEASES_MAX = 16_384


@dataclass(frozen=True, slots=True)
class Leave:
    """The asker has leave; `ahead` has leave for all, and is to be asked before upstream."""

    ahead: str | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """Somebody else has leave."""

    lessee: str


@dataclass(slots=True)
class _Lease:
    of_all: str | None = None
    of_zone: str | None = None


class Leases:
    """Who fetches which chunk, by the name that all members call its content, and its first byte."""

    def __init__(self) -> None:
        self._leases: OrderedDict[tuple[str, int], _Lease] = OrderedDict()

    def __len__(self) -> int:
        return len(self._leases)

    def ask(
        self, content: str, start: int, asker: str, *, same_zone: bool, without: Collection[str] = ()
    ) -> Leave | Taken:
        """Leave for the asker, a member of this node's own zone or not, unless somebody has it who is not in `without`."""
        key = content, start
        lease = self._leases.get(key)
        if lease is None:
            lease = self._leases[key] = _Lease()
            if len(self._leases) > LEASES_MAX:
                self._leases.popitem(last=False)
        self._leases.move_to_end(key)
        nobody = {None, asker, *without}
        if lease.of_zone not in nobody and (same_zone or lease.of_all in nobody):
            return Taken(str(lease.of_zone))
        if same_zone:
            lease.of_zone = asker
        if lease.of_all not in nobody:
            return Leave(lease.of_all) if same_zone else Taken(str(lease.of_all))
        lease.of_all = asker
        return Leave()

    def lessee(self, content: str, start: int) -> str | None:
        """Who has leave, in this node's own zone if anybody there does."""
        lease = self._leases.get((content, start))
        return None if lease is None else lease.of_zone or lease.of_all
