"""A member's own filter: what it advertises, cut into deltas, and when it is built anew.

A version is a batch: all that was advertised and withdrawn since the last one. A key that came and went between two
batches is never spoken of. Most of the time the next version is a delta; it is a whole filter of a new epoch when
the filter has grown too full, when tombstones are a quarter of it, or when a delta would be larger than the filter.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from peerd_gossip.bloom import FP_RATE_MAX, SIZE_LOG2_MAX, SIZE_LOG2_MIN, capacity, size_log2_for
from peerd_gossip.member import MemberId
from peerd_gossip.messages import DELTA_KEYS_MAX, EPOCH_MAX, VERSION_MAX, Delta, FilterImage, Stamp
from peerd_gossip.store import image_of

TOMBSTONES_MIN = 64  # so few are never worth a new epoch
KEY_BYTES = 8
KEYS_MAX = capacity(SIZE_LOG2_MAX, FP_RATE_MAX)  # more, and the largest filter would claim everything


class Publisher:
    """What one member holds, and the next version of its filter."""

    def __init__(self, me: MemberId, fp_rate: float) -> None:
        self._fp_rate = fp_rate
        self._keys: set[int] = set()
        self._added: dict[int, None] = {}  # since the last version; dicts, for their order
        self._withdrawn: dict[int, None] = {}
        self._tombstones: set[int] = set()
        self._size_log2 = SIZE_LOG2_MIN
        self._rebuild = True  # the first version is a whole filter
        self.stamp = Stamp(me, 0, 0)
        self.keys_dropped = 0  # advertised, but beyond what the largest filter can tell

    @property
    def keys(self) -> frozenset[int]:
        """What is advertised now."""
        return frozenset(self._keys)

    @property
    def pending(self) -> bool:
        """Whether `publish` would return something."""
        return bool(self._rebuild or self._added or self._withdrawn)

    def advertise(self, keys: Iterable[int]) -> None:
        """These are held from now on."""
        for key in keys:
            if key in self._keys:
                continue
            if len(self._keys) >= KEYS_MAX:
                self.keys_dropped += 1
                continue
            self._keys.add(key)
            if key in self._withdrawn:
                del self._withdrawn[key]
            else:
                self._added[key] = None

    def withdraw(self, keys: Iterable[int]) -> None:
        """These are not held any more."""
        for key in keys:
            if key not in self._keys:
                continue
            self._keys.remove(key)
            if key in self._added:
                del self._added[key]
            else:
                self._withdrawn[key] = None

    def refute(self, epoch: int) -> None:
        """Somebody tells of an epoch of mine that I never made: go past it, so that mine is believed."""
        if self.stamp.epoch <= epoch < EPOCH_MAX:
            self.stamp = Stamp(self.stamp.member, epoch, self.stamp.version)
            self._rebuild = True

    def publish(self) -> Delta | FilterImage | None:
        """The next version; None when nothing has changed."""
        if not self.pending:
            return None
        if self._rebuild or self._worth_a_new_epoch():
            return self._new_epoch()
        return self._delta()

    def _worth_a_new_epoch(self) -> bool:
        held = len(self._keys)
        if held > capacity(self._size_log2, self._fp_rate) and self._size_log2 < SIZE_LOG2_MAX:
            return True
        if len(self._tombstones) + len(self._withdrawn) > max(TOMBSTONES_MIN, held // 4):
            return True
        delta_bytes = KEY_BYTES * (len(self._added) + len(self._withdrawn))
        return delta_bytes > 1 << (self._size_log2 - 3) or self.stamp.version == VERSION_MAX

    def _new_epoch(self) -> FilterImage:
        held = len(self._keys)
        self._size_log2 = size_log2_for(held + held // 4, self._fp_rate)
        self.stamp = Stamp(self.stamp.member, self.stamp.epoch + 1, 0)
        self._rebuild = False
        self._added.clear()
        self._withdrawn.clear()
        self._tombstones.clear()
        return image_of(self.stamp, self._keys, self._size_log2)

    def _delta(self) -> Delta:
        withdrawn = tuple(islice(self._withdrawn, DELTA_KEYS_MAX))
        added = tuple(islice(self._added, DELTA_KEYS_MAX - len(withdrawn)))
        for key in withdrawn:
            del self._withdrawn[key]
        for key in added:
            del self._added[key]
        self._tombstones.update(withdrawn)
        self._tombstones.difference_update(added)
        self.stamp = Stamp(self.stamp.member, self.stamp.epoch, self.stamp.version + 1)
        return Delta(self.stamp, added, withdrawn)
