"""What members said that they have, remembered and on the wire."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.swarm.knowledge import CHUNKS_MAX, MEMBERS_MAX, Knowledge, random_bit, read_bits, write_bits


@given(bits=st.integers(0, (1 << 300) - 1) | st.integers(0, (1 << 5000) - 1), extra=st.integers(0, 100))
def test_a_bit_field_comes_back_as_it_was(bits: int, extra: int) -> None:
    assert read_bits(write_bits(bits, bits.bit_length() + extra or 1, 0)) == bits


@given(chunk=st.integers(0, 100_000))
def test_of_a_large_content_the_window_holds_the_chunk_that_was_asked_for(chunk: int) -> None:
    count = 100_001
    assert read_bits(write_bits((1 << count) - 1, count, chunk)) >> chunk & 1
    assert read_bits(write_bits(1 << chunk, count, chunk)) == 1 << chunk


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "0",
        "0:",
        "-1:AQ==",
        "x:AQ==",
        "0:!!!",
        "0:AQ",
        "0:zlib:AAAA",
        "9999999999:AQ==",
        write_bits(1, 5000, 0)[:-4],
    ],
)
def test_what_is_no_bit_field_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="bit field"):
        read_bits(text)


def test_a_field_that_unpacks_to_more_than_there_may_be_is_refused() -> None:
    too_many = CHUNKS_MAX * 100
    import base64
    import zlib

    bomb = base64.b64encode(zlib.compress(b"\xff" * (too_many // 8))).decode()
    with pytest.raises(ValueError, match="too many"):
        read_bits(f"0:zlib:{bomb}")


@given(bits=st.integers(1, (1 << 200) - 1), seed=st.integers(0, 99))
def test_a_random_bit_is_one_that_is_set(bits: int, seed: int) -> None:
    assert bits >> random_bit(bits, random.Random(seed)) & 1


@given(
    said=st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 255)),
    wanted=st.integers(1, 255),
    seed=st.integers(0, 9),
)
def test_what_is_chosen_is_wanted(said: dict[str, int], wanted: int, seed: int) -> None:
    knowledge = Knowledge(random.Random(seed))
    for name, bits in said.items():
        knowledge.learn("content", name, bits)
    assert wanted >> knowledge.choose("content", wanted) & 1


def test_mostly_a_chunk_is_chosen_that_somebody_has() -> None:
    knowledge = Knowledge(random.Random(1))
    knowledge.learn("content", "a", 1 << 7)
    chosen = [knowledge.choose("content", (1 << 64) - 1) for _ in range(200)]
    assert 100 < chosen.count(7) < 200


def test_what_a_member_said_last_counts_and_the_oldest_members_are_forgotten() -> None:
    knowledge = Knowledge(random.Random(1))
    knowledge.learn("content", "a", 0b01)
    knowledge.learn("content", "a", 0b10)
    assert (knowledge.has("content", "a", 0), knowledge.has("content", "a", 1)) == (False, True)
    for number in range(MEMBERS_MAX):
        knowledge.learn("content", f"m{number}", 0)
    assert knowledge.has("content", "a", 1) is None
    knowledge.forget("content", "m1")
    assert knowledge.has("content", "m1", 1) is None
    assert knowledge.has("other", "m2", 1) is None
