"""What a member publishes of its own keys: when a delta, when a filter of a new epoch."""

from __future__ import annotations

import random

from peerd_gossip.bloom import capacity
from peerd_gossip.member import MemberId
from peerd_gossip.messages import DELTA_KEYS_MAX, Delta, FilterImage, Stamp
from peerd_gossip.publisher import KEYS_MAX, Publisher

ME = MemberId(7)


def started(keys: int = 0) -> Publisher:
    publisher = Publisher(ME, 0.01)
    publisher.advertise(range(keys))
    publisher.publish()
    return publisher


def test_the_first_version_is_a_whole_filter_though_nothing_is_held() -> None:
    publisher = Publisher(ME, 0.01)
    first = publisher.publish()
    assert isinstance(first, FilterImage)
    assert (first.stamp, first.keys) == ((ME, 1, 0), 0)
    assert publisher.publish() is None


def test_what_comes_and_goes_between_two_versions_is_never_spoken_of() -> None:
    publisher = started()
    publisher.advertise([1, 2])
    publisher.withdraw([1])
    assert publisher.publish() == Delta(Stamp(ME, 1, 1), added=(2,))
    publisher.withdraw([2])
    publisher.advertise([2])
    assert publisher.publish() is None


def test_what_is_held_is_not_added_twice_and_what_is_not_held_is_not_withdrawn() -> None:
    publisher = started(3)
    publisher.advertise([1, 2])
    publisher.withdraw([99])
    assert not publisher.pending


def test_a_filter_that_grew_too_full_is_built_anew_and_larger() -> None:
    publisher = started(80)
    full = capacity(10, 0.01)
    for key in range(80, full):
        publisher.advertise([key])
        assert isinstance(publisher.publish(), Delta)
    publisher.advertise([full])
    grown = publisher.publish()
    assert isinstance(grown, FilterImage)
    assert (grown.stamp, grown.keys, grown.size_log2) == (Stamp(ME, 2, 0), full + 1, 11)


def test_tombstones_are_folded_in_when_they_are_a_quarter_of_the_filter() -> None:
    publisher = started(1000)
    publisher.withdraw(range(200))
    assert publisher.publish() == Delta(Stamp(ME, 1, 1), withdrawn=tuple(range(200)))
    publisher.withdraw(range(200, 300))
    folded = publisher.publish()
    assert isinstance(folded, FilterImage)
    assert (folded.keys, folded.tombstones) == (700, ())


def test_a_delta_larger_than_the_filter_is_a_filter() -> None:
    publisher = started()
    rng = random.Random(1)
    publisher.advertise(rng.getrandbits(64) for _ in range(60))
    assert isinstance(publisher.publish(), FilterImage)


def test_a_very_long_delta_is_cut_in_two() -> None:
    publisher = started(100_000)
    publisher.withdraw(range(10_000))
    first, second = publisher.publish(), publisher.publish()
    assert isinstance(first, Delta)
    assert isinstance(second, Delta)
    assert len(first.withdrawn) == DELTA_KEYS_MAX
    assert (*first.withdrawn, *second.withdrawn) == tuple(range(10_000))
    assert second.stamp.version == first.stamp.version + 1


def test_keys_beyond_what_the_largest_filter_can_tell_are_left_out_and_counted() -> None:
    publisher = started(KEYS_MAX)
    publisher.advertise([1 << 40])
    assert (publisher.keys_dropped, publisher.pending) == (1, False)


def test_an_epoch_that_somebody_made_up_is_passed() -> None:
    publisher = started(3)
    publisher.refute(500)
    refuted = publisher.publish()
    assert isinstance(refuted, FilterImage)
    assert (refuted.stamp.epoch, refuted.keys) == (501, 3)
