"""What the members' filters contain; replication.py decides about their versions only.

`FilterStore` keeps one member's own filter, the index over the others, the filters of members that are away for the
moment, and the deltas of late, so that a member that lacks a few is not sent a whole filter. The simulation has a store
of its own, in which members share what is the same at the same version: that is why the two are apart.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Protocol

from peerd_gossip.bloom import Bloom
from peerd_gossip.index import Index
from peerd_gossip.member import MemberId
from peerd_gossip.messages import Delta, FilterImage, Stamp

AWAY_MAX = 2048
LOG_KEYS_MAX = 1 << 18  # 64-bit keys in Python ints: about 10 MiB


class Store(Protocol):
    """Contents of filters, as replication needs them."""

    def learn(self, images: Sequence[FilterImage]) -> dict[MemberId, str]:
        """Take whole filters in, in place of older ones; returns those refused, with a reason."""

    def apply(self, delta: Delta) -> str | None:
        """Take the next delta of a member whose filter is here; returns why its filter was set aside, if it was."""

    def forget(self, member: MemberId) -> None:
        """The member is gone for good, or what is known of it is not believed any more."""

    def hide(self, member: MemberId) -> None:
        """The member is away: nobody is to be told that it holds a key until it is shown again."""

    def show(self, member: MemberId) -> bool:
        """The member is back; False when its filter was not kept."""

    def image(self, stamp: Stamp) -> FilterImage | None:
        """The member's whole filter, which stands at this stamp; None when it was set aside."""

    def since(self, have: Stamp, now: Stamp) -> list[Delta] | None:
        """The deltas from one version to another of one epoch; None when they are not all at hand."""


class FilterStore:
    """The store of a real node."""

    def __init__(self, me: MemberId, index: Index) -> None:
        self._me = me
        self._index = index
        self._mine = Bloom.empty(10)
        self._away: OrderedDict[MemberId, Bloom] = OrderedDict()
        self._log: OrderedDict[Stamp, Delta] = OrderedDict()
        self._log_keys = 0

    def learn(self, images: Sequence[FilterImage]) -> dict[MemberId, str]:
        """See Store."""
        filters = [(image.stamp.member, _bloom(image)) for image in images]
        for member, bloom in filters:
            if member == self._me:
                self._mine = bloom
        return self._index.put((member, bloom) for member, bloom in filters if member != self._me)

    def apply(self, delta: Delta) -> str | None:
        """See Store."""
        self._remember(delta)
        member = delta.stamp.member
        if member == self._me:
            self._mine.apply(delta.added, delta.withdrawn)
            return None
        return self._index.apply(member, delta.added, delta.withdrawn)

    def forget(self, member: MemberId) -> None:
        """See Store."""
        self._index.drop(member)
        self._away.pop(member, None)

    def hide(self, member: MemberId) -> None:
        """See Store."""
        bloom = self._index.bloom(member)
        if bloom is not None:
            self._index.drop(member)
            self._away[member] = bloom
            if len(self._away) > AWAY_MAX:
                self._away.popitem(last=False)

    def show(self, member: MemberId) -> bool:
        """See Store."""
        bloom = self._away.pop(member, None)
        return bloom is not None and not self._index.put([(member, bloom)])

    def image(self, stamp: Stamp) -> FilterImage | None:
        """See Store."""
        bloom = self._mine if stamp.member == self._me else self._index.bloom(stamp.member)
        if bloom is None:
            return None
        return FilterImage(stamp, bloom.size_log2, bloom.keys, bytes(bloom.bits), tuple(bloom.tombstones))

    def since(self, have: Stamp, now: Stamp) -> list[Delta] | None:
        """See Store."""
        if have.epoch != now.epoch:
            return None
        deltas = []
        for version in range(have.version + 1, now.version + 1):
            delta = self._log.get(Stamp(now.member, now.epoch, version))
            if delta is None:
                return None
            deltas.append(delta)
        return deltas

    def _remember(self, delta: Delta) -> None:
        self._log[delta.stamp] = delta
        self._log_keys += _weight(delta)
        while self._log_keys > LOG_KEYS_MAX:
            _, oldest = self._log.popitem(last=False)
            self._log_keys -= _weight(oldest)


def image_of(stamp: Stamp, keys: Iterable[int], size_log2: int) -> FilterImage:
    """The filter of these keys, as it is published."""
    bloom = Bloom.of(keys, size_log2)
    return FilterImage(stamp, size_log2, bloom.keys, bytes(bloom.bits))


def _bloom(image: FilterImage) -> Bloom:
    return Bloom(image.size_log2, bytearray(image.bits), image.keys, set(image.tombstones))


def _weight(delta: Delta) -> int:
    return len(delta.added) + len(delta.withdrawn) + 8  # the delta itself is worth about eight keys
