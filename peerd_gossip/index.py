"""Which live members may hold a key: the filters of all members, and the tombstones that mask single keys.

It answers from memory, in microseconds, and is all that a look-up ever touches. Filters come from outside and are
checked as they come: one that claims everything is set aside, and so is one for which there is no room.
"""

from __future__ import annotations

from collections.abc import Iterable

from peerd_gossip._rows import RowTable
from peerd_gossip.bloom import Bloom, probes
from peerd_gossip.member import MemberId


class Index:
    """Filters by member, and the question asked of all of them at once."""

    def __init__(self, *, bytes_max: int = 512 << 20) -> None:
        """`bytes_max` bounds the memory of filters and rows together, approximately."""
        self._bytes_max = bytes_max
        self._blooms: dict[MemberId, Bloom] = {}
        self._filter_bytes = 0
        self._tables: dict[int, RowTable] = {}
        self._masked: dict[int, set[MemberId]] = {}  # withdrawn key -> members whose filter still has its bits

    def __len__(self) -> int:
        return len(self._blooms)

    def __contains__(self, member: MemberId) -> bool:
        return member in self._blooms

    def __repr__(self) -> str:
        sizes = {1 << size: len(table) for size, table in sorted(self._tables.items())}
        return f"<Index members={len(self)} keys={self.keys} by size in bits={sizes}>"

    @property
    def keys(self) -> int:
        """Keys of all members, by their filters' own counts."""
        return sum(bloom.keys for bloom in self._blooms.values())

    @property
    def bytes_used(self) -> int:
        """About what filters and rows take."""
        return self._filter_bytes + sum(table.bytes_used for table in self._tables.values())

    def holders(self, key: int) -> list[MemberId]:
        """Members that may hold the key; those left out do not hold it."""
        positions = probes(key)
        found: list[MemberId] = []
        for table in self._tables.values():
            found += table.find(positions)
        if found and key in self._masked:
            masked = self._masked[key]
            return [member for member in found if member not in masked]
        return found

    def bloom(self, member: MemberId) -> Bloom | None:
        """The member's filter; to be read, not changed."""
        return self._blooms.get(member)

    def put(self, filters: Iterable[tuple[MemberId, Bloom]]) -> dict[MemberId, str]:
        """Take whole filters in, in place of what was known of these members; many at once cost hardly more than one.

        Returns what was refused, with a reason: `claims_everything` or `index_full`. What was known before of a
        member that is refused is forgotten.
        """
        refused: dict[MemberId, str] = {}
        by_size: dict[int, list[tuple[MemberId, Bloom]]] = {}
        for member, bloom in filters:
            self.drop(member)
            if bloom.claims_everything:
                refused[member] = "claims_everything"
                continue
            if self.bytes_used + len(bloom.bits) > self._bytes_max:
                refused[member] = "index_full"
                continue
            self._blooms[member] = bloom
            self._filter_bytes += len(bloom.bits)
            for key in bloom.tombstones:
                self._masked.setdefault(key, set()).add(member)
            by_size.setdefault(bloom.size_log2, []).append((member, bloom))
        for size_log2, group in by_size.items():
            self._tables.setdefault(size_log2, RowTable(size_log2)).put(group)
        return refused

    def apply(self, member: MemberId, added: tuple[int, ...], withdrawn: tuple[int, ...]) -> str | None:
        """One delta of a member whose filter is here. Returns why it was set aside, if it was."""
        bloom = self._blooms[member]
        positions = bloom.apply(added, withdrawn)
        if bloom.claims_everything:
            self.drop(member)
            return "claims_everything"
        for key in withdrawn:
            self._masked.setdefault(key, set()).add(member)
        if self._masked:
            for key in added:
                self._unmask(key, member)
        self._tables[bloom.size_log2].add(member, positions)
        return None

    def drop(self, member: MemberId) -> None:
        """Forget the member's filter, if there is one."""
        bloom = self._blooms.pop(member, None)
        if bloom is None:
            return
        self._filter_bytes -= len(bloom.bits)
        for key in bloom.tombstones:
            self._unmask(key, member)
        table = self._tables[bloom.size_log2]
        table.drop(member)
        if not len(table):
            del self._tables[bloom.size_log2]

    def _unmask(self, key: int, member: MemberId) -> None:
        masked = self._masked.get(key)
        if masked is not None:
            masked.discard(member)
            if not masked:
                del self._masked[key]
