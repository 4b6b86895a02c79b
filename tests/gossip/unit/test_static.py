"""Whom a member of a static list greets, and whom it need not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

from peerd_gossip.errors import PeerUnavailable
from peerd_gossip.member import Member, MemberState
from peerd_gossip.membership.static import StaticMembership
from peerd_gossip.messages import Roster
from tests.support.virtual_time import in_virtual_time

ME = Member("me", 1, "10.0.0.1:5001", "10.0.0.1:5002")
OTHER = Member("other", 1, "10.0.0.2:5001", "10.0.0.2:5002")
LATER_LIFE = Member("other", 2, OTHER.peer_addr, OTHER.gossip_addr)


class Other:
    """The network, with one other node, and the membership that greets it."""

    def __init__(self) -> None:
        self.greeted_at: list[float] = []
        self.answers = True
        self.states: list[MemberState] = []
        self.membership = StaticMembership([], clock=asyncio.get_running_loop().time, rng=random.Random(0))

    @asynccontextmanager
    async def known(self) -> AsyncIterator[None]:
        async with self.membership.running(ME, self, self.told):
            self.membership.heard_from(OTHER)
            await self.pass_by(1)
            assert self.states == [MemberState.ALIVE], "it is greeted back"
            yield

    async def greet(self, address: str, name: str | None, *, leaving: bool = False, timeout_s: float) -> Roster:
        del name, leaving, timeout_s
        assert address == OTHER.gossip_addr
        self.greeted_at.append(asyncio.get_running_loop().time())
        if not self.answers:
            raise PeerUnavailable("no answer")
        return ((OTHER, MemberState.ALIVE),)

    async def pass_by(self, seconds: int, *, says: Member | None = None) -> list[float]:
        """When it was greeted in these seconds; `says` is who it says it is, four times in each."""
        before = len(self.greeted_at)
        for _ in range(4 * seconds):
            if says is not None:
                self.membership.is_still_here(says)
            await asyncio.sleep(0.25)
        return self.greeted_at[before:]

    def told(self, _: Member, state: MemberState) -> None:
        if self.states[-1:] != [state]:
            self.states.append(state)


@in_virtual_time
async def test_one_that_is_silent_is_greeted_in_each_round() -> None:
    other = Other()
    async with other.known():
        assert 80 < len(await other.pass_by(100)) < 125


@in_virtual_time
async def test_one_that_speaks_to_us_is_greeted_when_its_last_answer_is_too_old() -> None:
    other = Other()
    async with other.known():
        greeted = await other.pass_by(100, says=OTHER)
        between = [later - sooner for sooner, later in pairwise(greeted)]
        assert min(between) >= 2.5
        assert max(between) < 2.5 + 1.25, "in the round after"


@in_virtual_time
async def test_what_another_life_of_it_says_is_nothing_about_this_one() -> None:
    other = Other()
    async with other.known():
        assert 80 < len(await other.pass_by(100, says=LATER_LIFE)) < 125


@in_virtual_time
async def test_one_that_speaks_and_does_not_answer_is_failed_all_the_same() -> None:
    other = Other()
    async with other.known():
        other.answers = False
        await other.pass_by(4, says=OTHER)
        assert other.states == [MemberState.ALIVE]
        await other.pass_by(4, says=OTHER)
        assert other.states == [MemberState.ALIVE, MemberState.FAILED]
        other.answers = True
        await other.pass_by(2, says=OTHER)
        assert other.states[-1] is MemberState.ALIVE
