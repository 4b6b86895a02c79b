"""One member's filter: sizes, keys, tombstones, and how to tell one that lies."""

from __future__ import annotations

import random

import pytest

from peerd_gossip.bloom import PROBES, SIZE_LOG2_MAX, Bloom, capacity, key_hash, probes, size_log2_for


def some_keys(count: int, seed: int = 1) -> list[int]:
    rng = random.Random(seed)
    return [rng.getrandbits(64) for _ in range(count)]


@pytest.mark.parametrize("text", ["", "sha256:0", "schlüssel", "a" * 10_000])
def test_a_key_is_64_bits_and_always_the_same(text: str) -> None:
    assert 0 <= key_hash(text) < 1 << 64
    assert key_hash(text) == key_hash(text)


def test_keys_are_those_of_the_description() -> None:
    """docs/gossip.md gives these, so that another implementation can check itself."""
    assert key_hash("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855") == 0xDABD7C47FC2CFBFD
    assert probes(0x0000000200000001) == (1, 3, 6, 11, 19, 31, 48)


@pytest.mark.parametrize(
    ("keys", "fp_rate", "size_log2"),
    [
        pytest.param(0, 0.01, 10, id="the smallest size there is"),
        pytest.param(106, 0.01, 10, id="as many as 2^10 bits take at 1 %"),
        pytest.param(107, 0.01, 11, id="one more"),
        pytest.param(2000, 0.01, 15, id="two thousand"),
        pytest.param(2000, 0.0001, 16, id="a smaller rate costs bits"),
        pytest.param(10_000_000, 0.01, SIZE_LOG2_MAX, id="the largest there is, though it is too small"),
    ],
)
def test_the_size_follows_the_number_of_keys(keys: int, fp_rate: float, size_log2: int) -> None:
    assert size_log2_for(keys, fp_rate) == size_log2


@pytest.mark.parametrize("fp_rate", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("size_log2", [10, 13, 16])
def test_a_full_filter_has_about_the_false_positive_rate_it_was_sized_for(fp_rate: float, size_log2: int) -> None:
    bloom = Bloom.of(some_keys(capacity(size_log2, fp_rate)), size_log2)
    asked = some_keys(20_000, seed=2)
    rate = sum(map(bloom.may_hold, asked)) / len(asked)
    assert rate < fp_rate * 1.5 + 0.001
    assert not bloom.claims_everything


def test_a_withdrawn_key_is_denied_by_name_until_it_is_added_again() -> None:
    first, second = some_keys(2)
    bloom = Bloom.of([first, second], 10)
    bloom.apply((), [first])
    assert (bloom.may_hold(first), bloom.may_hold(second), bloom.keys) == (False, True, 1)
    bloom.apply([first], ())
    assert (bloom.may_hold(first), bloom.keys, bloom.tombstones) == (True, 2, set())


@pytest.mark.parametrize(
    ("bits", "keys", "lies"),
    [
        pytest.param(b"\xff" * 128, 1_000_000, True, id="every bit is set"),
        pytest.param(b"\x77" * 128, 1_000_000, False, id="three of four bits are set, as a rate of 10 % may have it"),
        pytest.param(b"\x01" * 128, 128 // PROBES - 1, True, id="more bits than its keys can have set"),
        pytest.param(b"\x01" * 128, 128 // PROBES + 1, False, id="as many bits as its keys can have set"),
        pytest.param(b"\x00" * 128, 0, False, id="it is empty"),
    ],
)
def test_a_filter_that_claims_everything_is_told_from_an_honest_one(bits: bytes, keys: int, *, lies: bool) -> None:
    assert Bloom(10, bytearray(bits), keys).claims_everything is lies


@pytest.mark.parametrize(("size_log2", "size_bytes"), [(9, 64), (21, 1 << 18), (10, 127)])
def test_bits_that_do_not_fit_the_size_are_no_filter(size_log2: int, size_bytes: int) -> None:
    with pytest.raises(ValueError, match="not a filter"):
        Bloom(size_log2, bytearray(size_bytes))
