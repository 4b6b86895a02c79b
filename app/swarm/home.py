"""The member that fetches a chunk from upstream for all. Pure.

Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): every member gives each
chunk a score, the highest is its home. All members agree without a word, and when one goes only its own chunks move.

With zones there are two steps: the home over all members alone asks upstream, and in every other zone that zone's own home
alone asks across the border. The winner over all is also the winner in its own zone, so one rule serves both: ask the home of
your zone; if that is you, ask the home of all; if that is you too, ask upstream.

Whoever is asked has a higher score than whoever asks, whatever each of them believes of who is alive: so requests that are
passed on end, and never come back to where they were.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from heapq import nlargest

from peerd_gossip import Member

_MASK = (1 << 64) - 1
# An odd constant with well-spread bits (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
_MULTIPLIER = 0xBF58476D1CE4E5B9

FIRST_KEPT = 4
"""How many of a chunk's order are worked out at once: its home, and those that are asked when it fails."""

ORDERS_KEPT_MAX = 16_384


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


class Rendezvous:
    """The order in which each chunk prefers some members. Made anew when members come or go.

    Scoring 3,000 members takes the better part of a millisecond, so what was worked out is kept.
    """

    def __init__(self, members: Iterable[Member]) -> None:
        # In the order of names, so that members of equal score come in the same order everywhere.
        self.members = tuple(sorted(members, key=lambda member: member.name))
        self._by_zone: dict[str | None, tuple[Sequence[Member], Sequence[int]]] = {}
        self._orders: dict[tuple[str | None, int], list[Member]] = {}

    def __repr__(self) -> str:
        return f"<Rendezvous members={len(self.members)} orders={len(self._orders)}>"

    def order(self, chunk: int, *, zone: str | None, first: int = FIRST_KEPT) -> list[Member]:
        """The first members of `zone` (None: of all) for a chunk (its `chunk_hash`), the home first."""
        if first == FIRST_KEPT and (known := self._orders.get((zone, chunk))) is not None:
            return known
        members, hashes = self._of_zone(zone)
        scores = [
            ((mixed := ((member ^ chunk) * _MULTIPLIER) & _MASK) ^ mixed >> 31) * _MULTIPLIER & _MASK
            for member in hashes
        ]
        order = [members[-place] for _, place in nlargest(first, zip(scores, range(0, -len(scores), -1), strict=True))]
        if first == FIRST_KEPT:
            if len(self._orders) >= ORDERS_KEPT_MAX:
                self._orders.clear()
            self._orders[zone, chunk] = order
        return order

    def home(self, chunk: int, *, zone: str | None, without: Collection[str] = ()) -> Member | None:
        """The first in a chunk's order that is not named in `without`."""
        for first in (FIRST_KEPT, FIRST_KEPT + len(without)):
            for member in self.order(chunk, zone=zone, first=first):
                if member.name not in without:
                    return member
        return None

    def _of_zone(self, zone: str | None) -> tuple[Sequence[Member], Sequence[int]]:
        if zone not in self._by_zone:
            members = [member for member in self.members if zone is None or member.zone == zone]
            self._by_zone[zone] = members, [_hash(member.name) for member in members]
        return self._by_zone[zone]


@dataclass(frozen=True, slots=True)
class Roster:
    """The live members as one of them, `me`, sees them."""

    me: Member
    members: Rendezvous


def roster_of(me: Member, others: Iterable[Member], before: Roster | None = None) -> Roster:
    """This member and the other live ones; the one from before where nobody came or went."""
    members = Rendezvous((me, *others))
    return before if before is not None and before.members.members == members.members else Roster(me, members)


def chunk_hash(key: str, chunk: int) -> int:
    """What stands for a chunk in scores; `key` is a content key's text."""
    return _hash(f"{key}#{chunk}")


def homes(roster: Roster, chunk: int, *, without: Collection[str] = ()) -> list[Member]:
    """The members to be heard before upstream is asked, in order: the home of this zone, then that of all. One may be both."""
    found: list[Member] = []
    for zone in (roster.me.zone, None) if roster.me.zone else (None,):
        home = roster.members.home(chunk, zone=zone, without=without)
        if home is not None and home not in found:
            found.append(home)
    return found


def next_home(roster: Roster, chunk: int, *, without: Collection[str] = ()) -> Member | None:
    """Whom this node asks in place of upstream; None: it is the home of all."""
    return next((home for home in homes(roster, chunk, without=without) if home.name != roster.me.name), None)
