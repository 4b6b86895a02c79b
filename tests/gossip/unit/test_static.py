"""Whom a member of a static list greets, and whom it need not."""

from __future__ import annotations

import asyncio

from peerd_gossip.errors import PeerUnavailable
from peerd_gossip.member import Member, MemberState
from peerd_gossip.membership.static import StaticMembership, StaticTiming
from peerd_gossip.messages import Roster

ME = Member("me", 1, "10.0.0.1:5001", "10.0.0.1:5002")
OTHER = Member("other", 1, "10.0.0.2:5001", "10.0.0.2:5002")
TIMING = StaticTiming(greet_s=0.01, trusted_s=2.5, failed_after_s=5.0)
SEVERAL_ROUNDS_S = 0.15


class Other:
    """The network, with one other node. `now` is what the membership's clock shows; rounds follow each other in real time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.greeted = 0
        self.answers = True
        self.states: list[MemberState] = []

    async def greet(self, address: str, name: str | None, *, leaving: bool = False, timeout_s: float) -> Roster:
        del name, leaving, timeout_s
        assert address == OTHER.gossip_addr
        self.greeted += 1
        if not self.answers:
            raise PeerUnavailable("no answer")
        return ((OTHER, MemberState.ALIVE),)

    async def greetings(self) -> int:
        """How many come in the next few rounds."""
        before = self.greeted
        await asyncio.sleep(SEVERAL_ROUNDS_S)
        return self.greeted - before

    def told(self, _: Member, state: MemberState) -> None:
        if self.states[-1:] != [state]:
            self.states.append(state)


async def test_one_that_speaks_to_us_is_greeted_now_and_then_only() -> None:
    other = Other()
    membership = StaticMembership([OTHER.gossip_addr], timing=TIMING, clock=lambda: other.now)
    async with membership.running(ME, other, other.told):
        assert await other.greetings() > 2, "one that is silent, in each round"
        other.now += 2.4
        membership.is_still_here(OTHER)
        assert await other.greetings() == 0
        other.now += 0.2
        membership.is_still_here(OTHER)
        assert await other.greetings() == 1, "its last answer was too old"
        membership.is_still_here(Member("other", 2, OTHER.peer_addr, OTHER.gossip_addr))
        other.now += 0.1
        assert await other.greetings() > 2, "another life of it says nothing of this one"


async def test_one_that_speaks_and_does_not_answer_is_failed_all_the_same() -> None:
    other = Other()
    membership = StaticMembership([OTHER.gossip_addr], timing=TIMING, clock=lambda: other.now)
    async with membership.running(ME, other, other.told):
        await other.greetings()
        other.answers = False
        other.now += 5.1
        membership.is_still_here(OTHER)
        assert await other.greetings() > 2
        assert other.states == [MemberState.ALIVE, MemberState.FAILED]
        other.answers = True
        assert await other.greetings() > 0
        assert other.states[-1] is MemberState.ALIVE
