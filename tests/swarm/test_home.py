"""All members agree on a chunk's home without a word."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.swarm.home import Rendezvous, chunk_hash, homes, next_home, roster_of
from tests.swarm.members import members

CHUNKS = [chunk_hash("sha256:x", chunk) for chunk in range(500)]


def test_every_member_names_the_same_home() -> None:
    everybody = members(20)
    for chunk in CHUNKS[:50]:
        named = set()
        for me in everybody:
            others = [one for one in reversed(everybody) if one != me]
            named.add(homes(roster_of(me, others), chunk)[0].name)
        assert len(named) == 1


def test_homes_are_spread() -> None:
    table = Rendezvous(members(10))
    shares = Counter(table.order(chunk, zone=None)[0].name for chunk in CHUNKS)
    assert len(shares) == 10
    assert max(shares.values()) < 2 * len(CHUNKS) / 10


@given(gone=st.integers(0, 19))
def test_when_a_member_goes_only_its_own_chunks_move(gone: int) -> None:
    everybody = members(20)
    before, after = Rendezvous(everybody), Rendezvous([one for one in everybody if one != everybody[gone]])
    for chunk in CHUNKS[:100]:
        was = before.order(chunk, zone=None)[0]
        if was != everybody[gone]:
            assert after.order(chunk, zone=None)[0] == was


def test_a_home_that_is_left_out_is_followed_by_the_next_in_its_order() -> None:
    table = Rendezvous(members(12))
    for chunk in CHUNKS[:50]:
        order = table.order(chunk, zone=None, first=12)
        for left_out in range(11):
            names = {one.name for one in order[:left_out]}
            assert table.home(chunk, zone=None, without=names) == order[left_out]
    assert table.home(CHUNKS[0], zone=None, without={one.name for one in members(12)}) is None


def test_in_zones_the_zone_is_heard_before_all() -> None:
    everybody = members(12, zones=3)
    for me in everybody:
        roster = roster_of(me, [one for one in everybody if one != me])
        for chunk in CHUNKS[:50]:
            steps = homes(roster, chunk)
            assert steps[0].zone == me.zone
            assert steps[-1] == Rendezvous(everybody).order(chunk, zone=None)[0]


def test_who_is_the_home_of_all_has_nobody_to_ask() -> None:
    everybody = members(5)
    for chunk in CHUNKS[:50]:
        asked = [next_home(roster_of(me, [one for one in everybody if one != me]), chunk) for me in everybody]
        assert asked.count(None) == 1


@pytest.mark.parametrize("others", [[], members(3)])
def test_a_roster_is_the_same_object_while_nobody_comes_or_goes(others: list) -> None:
    me = members(9)[8]
    before = roster_of(me, others)
    assert roster_of(me, list(reversed(others)), before) is before
    assert roster_of(me, members(4), before) is not before
