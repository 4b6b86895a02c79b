"""The version vector: where each member's filter stands here, and sums that show at a glance where two vectors differ.

Members fall into 64 buckets by the low bits of their id. A bucket's sum is the exclusive or of the hashes of its
stamps, kept up as stamps change: equal vectors have equal sums, and of unequal ones only the buckets that differ need
to be listed. So two members that know the same agree on it for 512 bytes, whatever the size of the cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from peerd_gossip.member import MemberId
from peerd_gossip.messages import BUCKETS, Stamp

_WORD = (1 << 64) - 1


def stamp_hash(stamp: Stamp) -> int:
    """64 bits: the finaliser of SplitMix64 (Steele, Lea and Flood, 2014) over member, epoch and version."""
    x = (stamp.member ^ (stamp.epoch << 32 | stamp.version) * 0x9E3779B97F4A7C15) & _WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _WORD
    return x ^ (x >> 31)


class VersionVector:
    """Stamps by member."""

    def __init__(self) -> None:
        self._stamps: dict[MemberId, Stamp] = {}
        self._sums = [0] * BUCKETS

    def __len__(self) -> int:
        return len(self._stamps)

    def __iter__(self) -> Iterator[Stamp]:
        return iter(self._stamps.values())

    def __contains__(self, member: MemberId) -> bool:
        return member in self._stamps

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VersionVector) and self._stamps == other._stamps

    __hash__ = None  # type: ignore[assignment]  # it changes

    def get(self, member: MemberId) -> Stamp | None:
        """Where the member's filter stands; None when there is none."""
        return self._stamps.get(member)

    def set(self, stamp: Stamp) -> None:
        """The member's filter stands here now."""
        before = self._stamps.get(stamp.member)
        change = stamp_hash(stamp) if before is None else stamp_hash(stamp) ^ stamp_hash(before)
        self._sums[stamp.member % BUCKETS] ^= change
        self._stamps[stamp.member] = stamp

    def remove(self, member: MemberId) -> Stamp | None:
        """Nothing is known of the member any more; returns where it stood."""
        before = self._stamps.pop(member, None)
        if before is not None:
            self._sums[member % BUCKETS] ^= stamp_hash(before)
        return before

    def sums(self) -> tuple[int, ...]:
        """One sum for each bucket."""
        return tuple(self._sums)

    def differing(self, sums: Iterable[int]) -> int:
        """The buckets in which another vector, of these sums, differs: a bit for each."""
        return sum(
            1 << place for place, (mine, theirs) in enumerate(zip(self._sums, sums, strict=True)) if mine != theirs
        )

    def within(self, buckets: int) -> list[Stamp]:
        """All stamps in these buckets."""
        return [stamp for stamp in self._stamps.values() if buckets >> stamp.member % BUCKETS & 1]
