"""Which event when, as conversations and as properties of every life."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kubernetes.lifecycle import ALONE_SECONDS, Facts, Lifecycle, Occurrence, Reason

NAMES = ("a", "b", "c", "d", "e")


def facts(alive: str = "", exchanged: str = "", from_peers: int = 0) -> Facts:
    return Facts(frozenset(alive), frozenset(exchanged), from_peers)


def said(life: Lifecycle, *looks: Facts, every: float = 1.0, start: float = 100.0) -> list[str]:
    """Reasons, look by look, a second apart."""
    return [
        f"{one.reason}: {one.detail}" if one.detail else str(one.reason)
        for number, look in enumerate(looks)
        for one in life.observe(look, now=start + number * every)
    ]


def test_a_member_of_a_cluster() -> None:
    life = Lifecycle()
    assert life.starts() == Occurrence(Reason.INITIALIZING, "Normal", "")
    assert said(life, facts(), facts(alive="b"), facts(alive="bc", exchanged="b")) == [
        "P2PConnected: filters exchanged with b"
    ]
    assert said(life, facts("bc", "bc"), facts("bc", "bc", from_peers=1), facts("bc", "bc", from_peers=9)) == [
        "P2PActive: bytes of a peer have reached a client"
    ]
    assert life.leaves() == Occurrence(Reason.DISCONNECTED, "Normal", "it was told to end")
    assert said(life, facts("bc", "bc", 9), facts()) == []


def test_one_that_loses_all_members_and_finds_them_again() -> None:
    life = Lifecycle()
    assert said(life, facts("b", "b"), facts(), facts(), facts("b"), facts("b", "b"), facts("c", "c"), facts()) == [
        "P2PConnected: filters exchanged with b",
        "P2PDisconnected: all other members are gone, it serves alone until one comes",
        "P2PConnected: filters exchanged with b",
        "P2PDisconnected: all other members are gone, it serves alone until one comes",
    ]


def test_one_that_is_alone_says_so_after_a_while_and_meets_others_later() -> None:
    life = Lifecycle()
    assert said(life, facts(), facts(), start=0.0, every=ALONE_SECONDS - 0.1) == []
    assert said(life, facts(), facts(), start=ALONE_SECONDS) == [
        "P2PConnected: no other member within 30 s, it serves alone until one comes"
    ]
    assert said(life, facts("bcde", "bcde"), facts()) == [
        "P2PConnected: filters exchanged with b, c, d and 1 more",
        "P2PDisconnected: all other members are gone, it serves alone until one comes",
    ]


def test_one_whose_member_gives_no_filter_is_neither_connected_nor_alone() -> None:
    assert said(Lifecycle(), *[facts(alive="b")] * 5, every=ALONE_SECONDS) == []


def test_one_that_leaves_before_it_was_connected_disconnects_from_nothing() -> None:
    life = Lifecycle()
    assert said(life, facts()) == []
    assert life.leaves() is None


def test_one_that_can_not_run_says_why_once() -> None:
    life = Lifecycle()
    assert life.fails("address in use") == Occurrence(Reason.FAILED, "Warning", "address in use")
    assert life.fails("and again") is None
    assert said(life, facts("b", "b", 1)) == []


@st.composite
def looks(draw: st.DrawFn) -> tuple[float, Facts]:
    """Seconds since the last look, and what is so. A filter may be here of one who has just failed."""
    members = st.frozensets(st.sampled_from(NAMES), max_size=3)
    alive = draw(st.one_of(st.just(frozenset()), members))
    return draw(st.floats(0.0, 40.0)), Facts(alive, draw(members), draw(st.sampled_from([0, 0, 1])))


class Model:
    """What may be said, by what was seen and said before."""

    def __init__(self) -> None:
        self.connected = self.to_members = False
        self.active = 0
        self.alone_since: float | None = None

    def check(self, one: Occurrence, look: Facts, now: float) -> None:
        """This was said of it."""
        match one.reason:
            case Reason.CONNECTED if look.exchanged & look.alive:
                assert not self.to_members
                self.connected = self.to_members = True
            case Reason.CONNECTED:
                assert not self.connected
                assert not look.alive
                assert self.alone_since is not None
                assert now - self.alone_since >= ALONE_SECONDS
                self.connected = True
            case Reason.ACTIVE:
                assert self.to_members
                assert look.from_peers > 0
                self.active += 1
            case Reason.DISCONNECTED:
                assert self.to_members
                assert not look.alive
                assert one.kind == "Warning"
                self.to_members = False
            case _:
                pytest.fail(f"a node that serves says {one.reason}")

    def check_all_was_said(self, look: Facts, now: float) -> None:
        """After a look: what is so has been said by now."""
        assert self.to_members >= bool(look.exchanged & look.alive)
        assert not (self.to_members and not look.alive)
        assert self.active == 1 or not (self.to_members and look.from_peers)
        if look.alive:
            self.alone_since = None
        elif self.alone_since is None:
            self.alone_since = now
        elif now - self.alone_since >= ALONE_SECONDS:
            assert self.connected


@given(lives=st.lists(looks(), max_size=40))
def test_every_life_is_told_truly(lives: list[tuple[float, Facts]]) -> None:
    life, model, now = Lifecycle(), Model(), 0.0
    for seconds, look in lives:
        now += seconds
        for one in life.observe(look, now=now):
            model.check(one, look, now)
        model.check_all_was_said(look, now)
    assert model.active <= 1
    assert (life.leaves() is not None) <= model.connected
    assert life.leaves() is None


@given(lives=st.lists(looks(), max_size=20), left=st.booleans())
def test_nothing_follows_the_end(lives: list[tuple[float, Facts]], left: bool) -> None:
    life = Lifecycle()
    for number, (_, look) in enumerate(lives):
        life.observe(look, now=float(number))
    if left:
        life.leaves()
    else:
        assert life.fails("why") is not None
    assert [life.observe(look, now=1000.0 + seconds) for seconds, look in lives] == [[]] * len(lives)
