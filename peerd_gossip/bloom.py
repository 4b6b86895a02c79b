"""One member's Bloom filter: which keys it may hold, at which epoch and version.

A key is 64 bits of hash. Its seven probes come from the two halves by enhanced double hashing (Dillinger and
Manolios, "Bloom filters in probabilistic verification", 2004, section 5.2), computed once and cut to a filter's size
by taking their low bits: so a key is hashed once, however many sizes of filter are asked.

Seven probes, whatever the false-positive rate: 7 is the optimum for 1 %, and between 10 % and 0.01 % it costs at most
a fifth more bits than the optimum, which the next power of two swallows. With one number of probes there is one
table for each size in the index, and one meaning for a filter on the wire.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b

PROBES = 7
SIZE_LOG2_MIN = 10
SIZE_LOG2_MAX = 20
FILL_MAX = 0.80
"""More bits set than this is no honest filter: one at the greatest false-positive rate that is allowed, 10 %, has 0.72."""
FP_RATE_MIN = 1e-4
FP_RATE_MAX = 0.1

_LOW = 0xFFFFFFFF


def key_hash(text: str) -> int:
    """The key of `text` in filters: the first 8 bytes, little-endian, of BLAKE2b over its UTF-8."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def probes(key: int) -> tuple[int, int, int, int, int, int, int]:
    """Seven numbers whose low `size_log2` bits are the key's positions in a filter of that size."""
    a = key & _LOW
    b = key >> 32
    return (a, a + b, a + 2 * b + 1, a + 3 * b + 4, a + 4 * b + 10, a + 5 * b + 20, a + 6 * b + 35)


def capacity(size_log2: int, fp_rate: float) -> int:
    """How many keys a filter of 2^size_log2 bits takes before its false-positive rate is over `fp_rate`.

    From p = (1 - e^(-7n/m))^7, solved for n.
    """
    return int(-math.log1p(-(fp_rate ** (1 / PROBES))) * (1 << size_log2) / PROBES)


def size_log2_for(keys: int, fp_rate: float) -> int:
    """The smallest size that takes so many keys; the largest there is when none does."""
    for size_log2 in range(SIZE_LOG2_MIN, SIZE_LOG2_MAX):
        if capacity(size_log2, fp_rate) >= keys:
            return size_log2
    return SIZE_LOG2_MAX


@dataclass(slots=True)
class Bloom:
    """A member's filter at one epoch and version. It changes by `apply` alone.

    `keys` is the member's own count of what it holds. `tombstones` are keys that were withdrawn in this epoch: their
    bits stay, so they are denied by name. A new epoch is a new filter, with no tombstones.
    """

    size_log2: int
    bits: bytearray
    keys: int = 0
    tombstones: set[int] = field(default_factory=set)
    bits_set: int = field(init=False)

    def __post_init__(self) -> None:
        if not SIZE_LOG2_MIN <= self.size_log2 <= SIZE_LOG2_MAX or len(self.bits) != 1 << (self.size_log2 - 3):
            raise ValueError(f"not a filter: 2^{self.size_log2} bits in {len(self.bits)} bytes")
        self.bits_set = int.from_bytes(self.bits, "little").bit_count()

    @classmethod
    def empty(cls, size_log2: int) -> Bloom:
        """A filter that denies everything."""
        return cls(size_log2, bytearray(1 << (size_log2 - 3)))

    @classmethod
    def of(cls, keys: Iterable[int], size_log2: int) -> Bloom:
        """The filter of these keys."""
        bloom = cls.empty(size_log2)
        bloom.apply(keys, ())
        return bloom

    def apply(self, added: Iterable[int], withdrawn: Iterable[int]) -> list[int]:
        """One delta: `withdrawn` are denied from now on, `added` are not. Returns the positions of bits that were not set."""
        for key in withdrawn:
            self.tombstones.add(key)
            self.keys -= 1
        mask = (1 << self.size_log2) - 1
        bits, tombstones = self.bits, self.tombstones
        new: list[int] = []
        for key in added:
            self.keys += 1
            if tombstones:
                tombstones.discard(key)
            for probe in probes(key):
                position = probe & mask
                byte = bits[position >> 3]
                bit = 1 << (position & 7)
                if not byte & bit:
                    bits[position >> 3] = byte | bit
                    new.append(position)
        self.bits_set += len(new)
        self.keys = max(self.keys, 0)
        return new

    def may_hold(self, key: int) -> bool:
        """False: it does not hold the key. True: it does, or this is one of the false positives."""
        mask = (1 << self.size_log2) - 1
        bits = self.bits
        return key not in self.tombstones and all(
            bits[(probe & mask) >> 3] & (1 << (probe & 7)) for probe in probes(key)
        )

    @property
    def fill(self) -> float:
        """The share of bits that are set."""
        return self.bits_set / (1 << self.size_log2)

    @property
    def claims_everything(self) -> bool:
        """Whether it is too full to tell anything, or far too full for the keys that it says it has."""
        return self.fill > FILL_MAX or self.bits_set > PROBES * (self.keys + len(self.tombstones))
