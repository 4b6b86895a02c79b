"""The member that fetches a chunk from upstream for all. Pure.

Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): every member gives each
chunk a score, the highest is its home. All members agree without a word, and when one goes only its own chunks move.

With zones there are two steps: the home over all members alone asks upstream, and in every other zone that zone's own home
alone asks across the border. The winner over all is also the winner in its own zone, so one rule serves both: ask the home of
your zone; if that is you, ask the home of all; if that is you too, ask upstream.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from peerd_gossip import Member

_MASK = (1 << 64) - 1
# An odd constant with well-spread bits (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
_MULTIPLIER = 0xBF58476D1CE4E5B9


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


@dataclass(frozen=True, slots=True)
class Roster:
    """Who takes part, with what a score needs computed once. `me` is one of `members`."""

    me: Member
    members: Sequence[Member]
    hashes: Sequence[int]

    @classmethod
    def of(cls, me: Member, others: Sequence[Member]) -> "Roster":
        """This member and the other live ones."""
        members = (me, *others)
        return cls(me, members, tuple(_hash(member.name) for member in members))


def chunk_hash(key: str, chunk: int) -> int:
    """What stands for a chunk in scores; `key` is a content key's text."""
    return _hash(f"{key}#{chunk}")


def home(roster: Roster, chunk: int, *, zone: str | None, without: Collection[str] = ()) -> Member | None:
    """The home of a chunk (by its `chunk_hash`) among the members of `zone` (None: all), less those named in `without`."""
    best, best_score = None, -1
    for member, member_hash in zip(roster.members, roster.hashes, strict=True):
        if zone is not None and member.zone != zone:
            continue
        mixed = ((member_hash ^ chunk) * _MULTIPLIER) & _MASK
        score = mixed ^ (mixed >> 31)
        score = (score * _MULTIPLIER) & _MASK
        if score > best_score and member.name not in without:
            best, best_score = member, score
    return best


def next_home(roster: Roster, chunk: int, *, without: Collection[str] = ()) -> Member | None:
    """Whom this member asks to fetch a chunk; None: it is the home of all, and asks upstream itself."""
    me = roster.me
    for zone in (me.zone, None) if me.zone else (None,):
        found = home(roster, chunk, zone=zone, without=without)
        if found is not None and found.name != me.name:
            return found
    return None
