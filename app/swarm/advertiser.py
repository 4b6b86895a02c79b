"""From what changes in the cache to what gossip tells the others."""

from collections.abc import Iterable
from typing import Protocol

from peerd_gossip import key_hash


class Advertising(Protocol):
    """What is needed of gossip."""

    def advertise(self, keys: Iterable[int]) -> None:
        """These keys can be served from here."""

    def withdraw(self, keys: Iterable[int]) -> None:
        """These can not any more."""


class Advertiser:
    """What is held here, by any of its holders (the cache, names, containerd's store): a key is withdrawn with the last."""

    def __init__(self) -> None:
        self._gossip: Advertising | None = None
        self._holders: list[set[int]] = []

    def holder(self) -> "Holder":
        """One more room that holds things."""
        keys: set[int] = set()
        self._holders.append(keys)
        return Holder(self, keys)

    def connect(self, gossip: Advertising) -> None:
        """From now on the others are told, beginning with all that is held."""
        self._gossip = gossip
        gossip.advertise(set().union(*self._holders))

    def changed(self, keys: Iterable[int], before: frozenset[int]) -> None:
        """One holder has let go of, or taken, `keys`; `before` are those of them that were held by anybody."""
        if self._gossip is None:
            return
        after = self.held_by_any(keys)
        if new := after - before:
            self._gossip.advertise(new)
        if lost := before - after:
            self._gossip.withdraw(lost)

    def held_by_any(self, keys: Iterable[int]) -> frozenset[int]:
        """Those of `keys` that somebody holds."""
        return frozenset().union(*[held.intersection(keys) for held in self._holders])


class Holder:
    """One room's part of it. Taking a key that it has, and letting go of one that it has not, changes nothing."""

    def __init__(self, advertiser: Advertiser, keys: set[int]) -> None:
        self._advertiser = advertiser
        self._keys = keys

    def held(self, keys: Iterable[str]) -> None:
        """These can be served from here."""
        hashes = [key_hash(key) for key in keys]
        before = self._advertiser.held_by_any(hashes)
        self._keys.update(hashes)
        self._advertiser.changed(hashes, before)

    def gone(self, keys: Iterable[str]) -> None:
        """These can not any more."""
        hashes = [key_hash(key) for key in keys]
        before = self._advertiser.held_by_any(hashes)
        self._keys.difference_update(hashes)
        self._advertiser.changed(hashes, before)
