"""The contents of filters, kept once for a whole simulated cluster.

A filter at one epoch and version is the same everywhere, so simulated members need to hold versions only: `Truth` has the
deltas and filters that each member published, and what a member would hold follows from its versions. A few members
have a real store and a real index beside it, to be compared with the truth.
"""

from __future__ import annotations

from collections.abc import Sequence

from peerd_gossip.bloom import Bloom
from peerd_gossip.index import Index
from peerd_gossip.member import MemberId
from peerd_gossip.messages import Delta, FilterImage, Stamp
from peerd_gossip.store import FilterStore

LOG_VERSIONS = 64  # a real store's log forgets too


class Truth:
    """What every member has ever published."""

    def __init__(self) -> None:
        self._deltas: dict[Stamp, Delta] = {}
        self._images: dict[Stamp, FilterImage] = {}

    def publish(self, product: Delta | FilterImage) -> None:
        """A member's next version."""
        if isinstance(product, Delta):
            self._deltas[product.stamp] = product
        else:
            self._images[product.stamp] = product

    def since(self, have: Stamp, now: Stamp) -> list[Delta] | None:
        """See store.Store."""
        if have.epoch != now.epoch or now.version - have.version > LOG_VERSIONS:
            return None
        return [self._deltas[now._replace(version=version)] for version in range(have.version + 1, now.version + 1)]

    def image(self, stamp: Stamp) -> FilterImage:
        """The filter at this stamp: the last one that was published or made, and the deltas since."""
        version = stamp.version
        while (known := self._images.get(stamp._replace(version=version))) is None:
            version -= 1
        if version == stamp.version:
            return known
        bloom = Bloom(known.size_log2, bytearray(known.bits), known.keys, set(known.tombstones))
        for step in range(version + 1, stamp.version + 1):
            delta = self._deltas[stamp._replace(version=step)]
            bloom.apply(delta.added, delta.withdrawn)
        image = FilterImage(stamp, bloom.size_log2, bloom.keys, bytes(bloom.bits), tuple(sorted(bloom.tombstones)))
        self._images[stamp] = image
        return image


class SharedStore:
    """One simulated member's view of the truth (store.Store)."""

    def __init__(self, me: MemberId, truth: Truth) -> None:
        self._me = me
        self._truth = truth

    def learn(self, images: Sequence[FilterImage]) -> dict[MemberId, str]:
        """See store.Store."""
        for image in images:
            if image.stamp.member == self._me:
                self._truth.publish(image)
        return {}

    def apply(self, delta: Delta) -> str | None:
        """See store.Store."""
        if delta.stamp.member == self._me:
            self._truth.publish(delta)
        return None

    def forget(self, member: MemberId) -> None:
        """See store.Store."""

    def hide(self, member: MemberId) -> None:
        """See store.Store."""

    def show(self, member: MemberId) -> bool:
        """See store.Store."""
        del member
        return True

    def image(self, stamp: Stamp) -> FilterImage | None:
        """See store.Store."""
        return self._truth.image(stamp)

    def since(self, have: Stamp, now: Stamp) -> list[Delta] | None:
        """See store.Store."""
        return self._truth.since(have, now)


class ToldStore(FilterStore):
    """A real store that tells the truth what its own member publishes."""

    def __init__(self, me: MemberId, index: Index, truth: Truth) -> None:
        super().__init__(me, index)
        self._mine_is = me
        self._truth = truth

    def learn(self, images: Sequence[FilterImage]) -> dict[MemberId, str]:
        """See store.Store."""
        for image in images:
            if image.stamp.member == self._mine_is:
                self._truth.publish(image)
        return super().learn(images)

    def apply(self, delta: Delta) -> str | None:
        """See store.Store."""
        if delta.stamp.member == self._mine_is:
            self._truth.publish(delta)
        return super().apply(delta)
