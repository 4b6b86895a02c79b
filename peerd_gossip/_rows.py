"""Filters of one size, bit-sliced: a row for each bit position, a bit in it for each member.

Who may hold a key is then the AND of seven rows, each one Python int as wide as the cluster: a handful of
machine-code loops over 125 bytes for a thousand members, and no member is looked at by itself.

What is cheap to read this way is dear to write: one new filter is a bit in half of all rows. So a filter that comes
whole waits *fresh*, as it came, asked by itself (about 0.5 µs each), until there are enough to turn all of them into
columns in one pass over the rows. Columns of members that went are cleared in the same pass.
"""

from __future__ import annotations

from collections.abc import Iterable

from peerd_gossip.bloom import Bloom
from peerd_gossip.member import MemberId

FRESH_MAX = 8


class RowTable:
    """The filters of 2^size_log2 bits of several members."""

    def __init__(self, size_log2: int) -> None:
        self.size_log2 = size_log2
        self._mask = (1 << size_log2) - 1
        self._rows: list[int] = []  # made with the first pass: a table of few members needs none
        self._slots: dict[MemberId, int] = {}
        self._members: list[MemberId] = []  # by slot
        self._occupied = 0  # slots whose column is in the rows and is believed
        self._stale = 0  # slots whose column is in the rows and is not
        self._free: list[int] = []  # slots with no bit in any row
        self._fresh: dict[MemberId, Bloom] = {}

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
        for member, bloom in filters:
            self.drop(member)
            slot = self._free.pop() if self._free else len(self._members)
            if slot == len(self._members):
                self._members.append(member)
            self._members[slot] = member
            self._slots[member] = slot
            self._fresh[member] = bloom
        if len(self._fresh) > FRESH_MAX:
            self._turn()

    def add(self, member: MemberId, positions: Iterable[int]) -> None:
        """The member's filter has these bits set now."""
        if member in self._fresh:
            return
        bit = 1 << self._slots[member]
        rows = self._rows
        for position in positions:
            rows[position] |= bit

    def drop(self, member: MemberId) -> None:
        """Forget the member's filter, if there is one."""
        slot = self._slots.pop(member, None)
        if slot is None:
            return
        if self._fresh.pop(member, None) is not None:
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
            for member, bloom in self._fresh.items():
                bits = bloom.bits
                for position in positions:
                    if not bits[(position & mask) >> 3] & (1 << (position & 7)):
                        break
                else:
                    found.append(member)
        return found

    def _turn(self) -> None:
        """Make the fresh filters columns, and clear the columns that nobody believes, in one pass over the rows."""
        fresh = {self._slots[member]: bloom.bits for member, bloom in self._fresh.items()}
        lane_first = min(fresh) >> 3
        lanes = (max(fresh) >> 3) - lane_first + 1
        block = bytearray(lanes << self.size_log2)  # for each row `lanes` bytes: the new bits of 8 * lanes slots
        for lane in {slot >> 3 for slot in fresh}:
            block[lane - lane_first :: lanes] = _transposed([fresh.get(lane * 8 + bit) for bit in range(8)])
        shift = lane_first * 8
        rows = self._rows or [0] * (1 << self.size_log2)
        keep = ~self._stale
        little = int.from_bytes
        if lanes == 1:
            self._rows = [(row & keep) | (new << shift) for row, new in zip(rows, block, strict=True)]
        else:
            places = range(0, len(block), lanes)
            self._rows = [
                (row & keep) | (little(block[place : place + lanes], "little") << shift)
                for row, place in zip(rows, places, strict=True)
            ]
        self._free.extend(_bits_of(self._stale))
        self._stale = 0
        for slot in fresh:
            self._occupied |= 1 << slot
        self._fresh.clear()


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
