"""Who is known in which life and state."""

from __future__ import annotations

import dataclasses

import pytest

from peerd_gossip.member import Member, MembershipEvent, MemberState, join_address, member_id, split_address
from peerd_gossip.roster import FAILED_KEPT_S, LEFT_KEPT_S, Roster

ALIVE, FAILED, LEFT = MemberState.ALIVE, MemberState.FAILED, MemberState.LEFT


def member(name: str, life: int = 1, port: int = 5002) -> Member:
    return Member(name, life, f"127.0.0.1:{port - 1}", f"127.0.0.1:{port}")


ME = member("me")
A, A2 = member("a", 1), member("a", 2, port=6002)


@pytest.fixture
def roster() -> Roster:
    return Roster(ME, members_max=3)


def test_a_member_joins_fails_and_comes_back(roster: Roster) -> None:
    assert roster.report(A, ALIVE, now=0) == [MembershipEvent(A, ALIVE)]
    assert roster.report(A, ALIVE, now=1) == []
    assert roster.report(A, FAILED, now=2) == [MembershipEvent(A, FAILED)]
    assert roster.live() == frozenset()
    assert roster.report(A, ALIVE, now=3) == [MembershipEvent(A, ALIVE)]
    assert roster.by_id(A.id) == A


def test_a_newer_life_replaces_the_former_at_once(roster: Roster) -> None:
    roster.report(A, ALIVE, now=0)
    assert roster.report(A2, ALIVE, now=1) == [MembershipEvent(A, FAILED), MembershipEvent(A2, ALIVE)]
    assert roster.live() == {A2.id}
    assert roster.get("a") == A2


@pytest.mark.parametrize("state", [ALIVE, FAILED, LEFT])
def test_what_is_said_of_a_former_life_is_not_believed(roster: Roster, state: MemberState) -> None:
    roster.report(A2, ALIVE, now=0)
    assert roster.report(A, state, now=1) == []
    assert roster.members() == [(ME, ALIVE), (A2, ALIVE)]


def test_a_life_that_said_farewell_does_not_come_back(roster: Roster) -> None:
    roster.report(A, ALIVE, now=0)
    assert roster.report(A, LEFT, now=1, final=True) == [MembershipEvent(A, LEFT)]
    assert roster.report(A, ALIVE, now=2) == []
    assert roster.report(A2, ALIVE, now=2) == [MembershipEvent(A2, ALIVE)]


def test_one_who_left_does_not_fail_afterwards(roster: Roster) -> None:
    roster.report(A, ALIVE, now=0)
    roster.report(A, LEFT, now=1)
    assert roster.report(A, FAILED, now=2) == []
    assert roster.state("a") is LEFT


def test_nobody_is_failed_who_was_never_alive(roster: Roster) -> None:
    assert roster.report(A, FAILED, now=0) == []
    assert roster.get("a") is None


def test_another_with_this_members_name_is_refused(roster: Roster) -> None:
    assert roster.report(member("me", 2), ALIVE, now=0) == []
    assert roster.refused == 1
    assert roster.get("me") == ME


def test_a_full_roster_makes_room_only_at_the_cost_of_those_who_are_gone(roster: Roster) -> None:
    for name in "abc":
        roster.report(member(name), ALIVE, now=0)
    assert roster.report(member("d"), ALIVE, now=1) == []
    assert roster.refused == 1
    roster.report(member("b"), FAILED, now=2)
    assert roster.report(member("d"), ALIVE, now=3) == [MembershipEvent(member("d"), ALIVE)]
    assert roster.get("b") is None


@pytest.mark.parametrize(("state", "kept_s"), [(LEFT, LEFT_KEPT_S), (FAILED, FAILED_KEPT_S)])
def test_those_who_are_gone_are_forgotten_in_time(roster: Roster, state: MemberState, kept_s: float) -> None:
    roster.report(A, ALIVE, now=0)
    roster.report(A, state, now=10)
    roster.purge(now=10 + kept_s)
    assert roster.get("a") == A
    roster.purge(now=11 + kept_s)
    assert roster.get("a") is None


def test_an_address_that_changes_within_a_life_is_the_new_one(roster: Roster) -> None:
    roster.report(A, ALIVE, now=0)
    moved = dataclasses.replace(A, peer_addr="127.0.0.9:1")
    assert roster.report(moved, ALIVE, now=1) == []
    assert roster.by_id(A.id) == moved


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "a\n"},
        {"name": "n" * 129},
        {"life": 0},
        {"life": 1 << 63},
        {"peer_addr": "127.0.0.1"},
        {"gossip_addr": "127.0.0.1:port"},
        {"gossip_addr": "127.0.0.1:65536"},
        {"gossip_addr": "::1:5002"},
        {"gossip_addr": "h" * 300 + ":1"},
        {"zone": "z" * 65},
        {"version": "\x00"},
    ],
)
def test_what_is_no_member_is_not_made_one(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"member|address"):
        dataclasses.replace(A, **wrong)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:5002", "node.example:65535"])
def test_an_address_is_host_and_port(address: str) -> None:
    assert join_address(*split_address(address)) == address


def test_the_id_of_a_life_is_that_of_the_description() -> None:
    assert member_id("node-1", 1_700_000_000_000) == 0xD3DC05DAEF7A8B15
