"""Filters of one size, bit-sliced: a row for each bit position, a bit in it for each member.

Who may hold a key is then the AND of seven rows, each one Python int as wide as the cluster: a handful of
machine-code loops over 125 bytes for a thousand members, and no member is looked at by itself.

What is cheap to read this way is dear to write: one new filter is a bit in half of all rows. So a filter that comes
whole waits *fresh*, as it came, asked by itself (about 0.5 µs each), until there are enough to turn all of them into
columns in one pass over the rows. Columns of members that went are cleared in the same pass. A pass over a large table
would stop everything else for half a second, so it is made in pieces, one with each call that changes the table; until it is
done, its filters are still asked by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from peerd_gossip.bloom import Bloom
from peerd_gossip.member import MemberId

FRESH_MAX = 8
ROWS_AT_ONCE = 1 << 15  # some 10 ms for a thousand members
SHARES_MAX = 4


@dataclass(slots=True)
class _Pass:
    """A pass over the rows that has come to row `row`."""

    slots: frozenset[int]
    keep: int  # all slots but those that are cleared
    cleared: int
    shift: int  # of the first lane of eight slots
    lanes: int
    block: bytearray  # for each row `lanes` bytes: the new bits of 8 * lanes slots
    late: list[tuple[int, int]]  # row and bit that came to one of the filters since the pass began
    row: int = 0


class RowTable:
    """The filters of 2^size_log2 bits of several members."""

    def __init__(self, size_log2: int, *, rows_at_once: int = ROWS_AT_ONCE) -> None:
        """A change does its share of a pass, `rows_at_once` rows for each filter that it brings, SHARES_MAX times that at most."""
        self.size_log2 = size_log2
        self._rows_at_once = rows_at_once
        self._mask = (1 << size_log2) - 1
        self._rows: list[int] = []  # made with the first pass: a table of few members needs none
        self._slots: dict[MemberId, int] = {}
        self._members: list[MemberId] = []  # by slot
        self._occupied = 0  # slots whose column is in the rows and is believed
        self._stale = 0  # slots whose column is in the rows and is not
        self._free: list[int] = []  # slots with no bit in any row
        self._fresh: dict[MemberId, bytearray] = {}  # their filters' own bits, which go on changing
        self._pass: _Pass | None = None

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, member: MemberId) -> bool:
        return member in self._slots

    @property
    def bytes_used(self) -> int:
        """About what the rows take: an int's header and four bytes for each 30 slots, and the list."""
        return len(self._rows) * (8 + 28 + len(self._members) // 30 * 4)

    def put(self, filters: Iterable[tuple[MemberId, Bloom]]) -> None:
        """Take these filters in. The table reads a Bloom that it was given later too: it is not copied."""
        shares = 0
        for member, bloom in filters:
            shares += 1
            self.drop(member)
            slot = self._free.pop() if self._free else len(self._members)
            if slot == len(self._members):
                self._members.append(member)
            self._members[slot] = member
            self._slots[member] = slot
            self._fresh[member] = bloom.bits
        self._go_on(min(shares, SHARES_MAX) * self._rows_at_once)

    def add(self, member: MemberId, positions: Iterable[int]) -> None:
        """The member's filter has these bits set now."""
        bit = 1 << self._slots[member]
        if member not in self._fresh:
            rows = self._rows
            for position in positions:
                rows[position] |= bit
        elif self._pass is not None and self._slots[member] in self._pass.slots:
            self._pass.late.extend((position, bit) for position in positions)
        self._go_on(self._rows_at_once)

    def drop(self, member: MemberId) -> None:
        """Forget the member's filter, if there is one."""
        slot = self._slots.pop(member, None)
        if slot is None:
            return
        fresh = self._fresh.pop(member, None) is not None
        if fresh and (self._pass is None or slot not in self._pass.slots):
            self._free.append(slot)
            return
        self._occupied &= ~(1 << slot)
        self._stale |= 1 << slot

    def find(self, positions: tuple[int, int, int, int, int, int, int]) -> list[MemberId]:
        """Members whose filter has all of these bits."""
        mask = self._mask
        found: list[MemberId] = []
        row = self._occupied
        if row:
            rows = self._rows
            for position in positions:
                row &= rows[position & mask]
                if not row:
                    break
            while row:
                low = row & -row
                found.append(self._members[low.bit_length() - 1])
                row ^= low
        if self._fresh:
            first, *others = positions
            place, bit = (first & mask) >> 3, 1 << (first & 7)
            for member, bits in self._fresh.items():
                if not bits[place] & bit:
                    continue
                for position in others:
                    if not bits[(position & mask) >> 3] & (1 << (position & 7)):
                        break
                else:
                    found.append(member)
        return found

    def _go_on(self, rows: int) -> None:
        """Do so many rows of the pass, and begin one if it is time."""
        while True:
            if self._pass is None:
                if len(self._fresh) <= FRESH_MAX:
                    return
                self._pass = self._begin()
            if rows <= 0:
                return
            rows -= self._turn(self._pass, rows)

    def _turn(self, turn: _Pass, rows: int) -> int:
        """Give the next rows their new bits; returns how many rows they were."""
        first, last = turn.row, min(turn.row + rows, 1 << self.size_log2)
        old = self._rows[first:last]
        keep, shift, lanes = turn.keep, turn.shift, turn.lanes
        if lanes == 1:
            new = turn.block[first:last]
            self._rows[first:last] = [(row & keep) | (bits << shift) for row, bits in zip(old, new, strict=True)]
        else:
            little, block = int.from_bytes, turn.block
            places = range(first * lanes, last * lanes, lanes)
            self._rows[first:last] = [
                (row & keep) | (little(block[place : place + lanes], "little") << shift)
                for row, place in zip(old, places, strict=True)
            ]
        turn.row = last
        if last == 1 << self.size_log2:
            self._finish(turn)
        return last - first

    def _begin(self) -> _Pass:
        """Take the fresh filters, as they are now, into a pass."""
        fresh = {self._slots[member]: bits for member, bits in self._fresh.items()}
        lane_first = min(fresh) >> 3
        lanes = (max(fresh) >> 3) - lane_first + 1
        block = bytearray(lanes << self.size_log2)
        for lane in {slot >> 3 for slot in fresh}:
            block[lane - lane_first :: lanes] = _transposed([fresh.get(lane * 8 + bit) for bit in range(8)])
        self._rows = self._rows or [0] * (1 << self.size_log2)
        cleared, self._stale = self._stale, 0
        return _Pass(frozenset(fresh), ~cleared, cleared, lane_first * 8, lanes, block, [])

    def _finish(self, turn: _Pass) -> None:
        """The columns are there: the filters are asked by them from now on."""
        for row, bit in turn.late:
            self._rows[row] |= bit
        self._free.extend(_bits_of(turn.cleared))
        for member in [member for member in self._fresh if self._slots[member] in turn.slots]:
            del self._fresh[member]
            self._occupied |= 1 << self._slots[member]
        self._pass = None


def _bits_of(word: int) -> Iterable[int]:
    while word:
        low = word & -word
        yield low.bit_length() - 1
        word ^= low


def _transposed(columns: list[bytearray | None]) -> bytes:
    """Eight filters as columns: byte p of the result has, at bit i, bit p of filter i.

    The 8 by 8 transposition of Warren's "Hacker's Delight" (section 7-3), on all bytes of the filters at once: Python's
    ints are the vector registers.
    """
    size = next(len(column) for column in columns if column is not None)
    mixed = bytearray(8 * size)
    for place, column in enumerate(columns):
        if column is not None:
            mixed[place::8] = column
    word = int.from_bytes(mixed, "little")
    for shift, pattern in ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0)):
        mask = int.from_bytes(pattern.to_bytes(8, "little") * size, "little")
        swap = (word ^ (word >> shift)) & mask
        word ^= swap ^ (swap << shift)
    return word.to_bytes(8 * size, "little")
