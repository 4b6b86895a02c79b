"""Three real nodes on 127.0.0.1, .2 and .3, found from one seed, over real gRPC."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import pytest

from peerd_gossip import Gossip, GossipConfig, Member, MembershipEvent, MemberState, StaticMembership, key_hash
from peerd_gossip.membership.static import StaticTiming

LIVES = itertools.count(1_700_000_000_000)
Until = Callable[..., Awaitable[None]]
QUICK = StaticTiming(greet_s=0.1, answer_s=0.5, failed_after_s=1.0)


def node(host: str, *join: str, name: str | None = None) -> AbstractAsyncContextManager[Gossip]:
    me = Member(
        name=name or f"node-{host.rpartition('.')[2]}",
        life=next(LIVES),
        peer_addr=f"{host}:5001",
        gossip_addr=f"{host}:0",
        zone="z1",
        version="test",
    )
    return Gossip.running(GossipConfig(me=me, bind=f"{host}:0"), StaticMembership(join, timing=QUICK))


@asynccontextmanager
async def three(until: Until) -> AsyncIterator[tuple[Gossip, Gossip, Gossip]]:
    async with (
        node("127.0.0.1") as a,
        node("127.0.0.2", a.me.gossip_addr) as b,
        node("127.0.0.3", a.me.gossip_addr) as c,
    ):
        for one in (a, b, c):
            await until(lambda one=one: len(one.statistics().exchanged_with) == 2)
        yield a, b, c


def names(found: list[Member]) -> set[str]:
    return {member.name for member in found}


async def test_one_seed_is_enough_to_find_everybody(until: Until) -> None:
    async with three(until) as (a, b, c):
        for one in (a, b, c):
            assert {member for member, state in one.members() if state is MemberState.ALIVE} == {a.me, b.me, c.me}


async def test_a_key_is_known_to_others_and_withdrawn_again(until: Until) -> None:
    key = key_hash("sha256:1")
    async with three(until) as (a, b, c):
        a.advertise([key])
        await until(lambda: b.holders(key) == [a.me] and c.holders(key) == [a.me])
        assert a.holders(key) == [], "a member is not told of itself"
        assert b.holders(key_hash("sha256:2")) == []
        a.withdraw([key])
        await until(lambda: not b.holders(key) and not c.holders(key))
        a.advertise([key])
        await until(lambda: b.holders(key) and c.holders(key))


async def test_more_keys_than_a_delta_carries_come_as_a_filter(until: Until) -> None:
    keys = [key_hash(str(i)) for i in range(5000)]
    async with three(until) as (a, b, _):
        a.advertise(keys)
        await until(lambda: b.holders(keys[-1]))
        assert all(b.holders(key) == [a.me] for key in keys)
        assert b.statistics().index_keys == 5000


async def test_a_member_that_stops_without_a_word_is_failed_and_comes_back_in_a_new_life(until: Until) -> None:
    key = key_hash("blob")
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(node("127.0.0.1"))
        b = await stack.enter_async_context(node("127.0.0.2", a.me.gossip_addr))
        async with node("127.0.0.3", a.me.gossip_addr) as c:
            c.advertise([key])
            await until(lambda: a.holders(key) and b.holders(key))
            former = c.me
        await until(lambda: dict(a.members()).get(former) is MemberState.FAILED)
        await until(lambda: dict(b.members()).get(former) is MemberState.FAILED)
        assert a.holders(key) == b.holders(key) == []
        again = await stack.enter_async_context(node("127.0.0.4", b.me.gossip_addr, name=former.name))
        await until(lambda: names([m for m, s in a.members() if s is MemberState.ALIVE]) >= {former.name})
        assert a.holders(key) == [], "what a former life held is not believed of the new one"
        again.advertise([key])
        await until(lambda: a.holders(key) == [again.me] and b.holders(key) == [again.me])


async def test_one_that_leaves_is_out_at_once(until: Until) -> None:
    key = key_hash("blob")
    async with three(until) as (a, b, c):
        a.advertise([key])
        await until(lambda: b.holders(key) and c.holders(key))
        await a.leave()
        await until(lambda: not b.holders(key) and not c.holders(key), within_s=QUICK.failed_after_s)
        await until(lambda: dict(b.members())[a.me] is MemberState.LEFT)


async def test_watchers_are_told_who_comes_and_goes(until: Until) -> None:
    async with node("127.0.0.1") as a:
        seen: list[MembershipEvent] = []

        async def watch() -> None:
            async for event in a.watch():
                seen.append(event)  # noqa: PERF401  it never ends

        async with asyncio.TaskGroup() as tasks:
            watcher = tasks.create_task(watch())
            async with node("127.0.0.2", a.me.gossip_addr) as b:
                await until(lambda: MembershipEvent(b.me, MemberState.ALIVE) in seen)
                await b.leave()
                await until(lambda: MembershipEvent(b.me, MemberState.LEFT) in seen)
            watcher.cancel()


async def test_an_exception_of_the_user_leaves_as_it_was() -> None:
    with pytest.raises(LookupError, match="mine"):
        async with node("127.0.0.1"):
            raise LookupError("mine")
