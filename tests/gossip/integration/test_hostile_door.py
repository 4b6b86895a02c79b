"""A member of the cluster that sends anything at all to the gossip door of another."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import grpc
import grpc.aio
import pytest

from peerd_gossip import Gossip, GossipConfig, Member, MemberState, StaticMembership, key_hash
from peerd_gossip.errors import MessageRefused
from peerd_gossip.grpc_transport import EXCHANGE, GREET, REFUSALS_MAX
from peerd_gossip.membership.static import StaticTiming
from peerd_gossip.messages import (
    BUCKETS,
    Answer,
    Delta,
    Digest,
    Frame,
    Greeting,
    Hello,
    Rumours,
    Stamp,
    Versions,
    Want,
    decode_frame,
    encode_frame,
    encode_greeting,
)
from peerd_gossip.store import image_of

Until = Callable[..., Awaitable[None]]
MUTANTS = 10_000
KEYS = [key_hash(str(i)) for i in range(50)]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to four of: a bit turned, bytes cut out, doubled or put in, an end cut off."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(out) + 1)
        match rng.randrange(5):
            case 0 if out:
                out[place % len(out)] ^= 1 << rng.randrange(8)
            case 1:
                del out[place : place + rng.randint(1, 8)]
            case 2:
                out[place:place] = out[place : place + rng.randint(1, 64)]
            case 3:
                out[place:place] = rng.randbytes(rng.randint(1, 8))
            case _:
                del out[place:]
    return bytes(out)


def frames(mallory: Member, victim: Member) -> dict[str, Frame]:
    stamps = (Stamp(mallory.id, 3, 4), Stamp(victim.id, 1, 0))
    return {
        "hello": Hello(mallory),
        "rumours": Rumours((Delta(Stamp(mallory.id, 1, 1), tuple(KEYS)),), stamps),
        "digest": Digest(tuple(range(BUCKETS))),
        "versions": Versions(2**64 - 1, stamps),
        "want": Want(stamps),
        "answer": Answer((), (image_of(Stamp(mallory.id, 2, 0), KEYS, 10),)),
    }


def refusal_of(frame: bytes) -> str | None:
    try:
        return "protocol" if isinstance(decode_frame(frame), Hello) else None
    except MessageRefused as refusal:
        return refusal.reason


async def send_all(channel: grpc.aio.Channel, hello: bytes, sent: list[bytes]) -> None:
    """In as many conversations as it takes: one is ended after a hundred refusals."""
    while sent:
        call = channel.stream_stream(EXCHANGE)()
        await call.write(hello)
        assert await call.read() is not grpc.aio.EOF

        async def listen(call: grpc.aio.StreamStreamCall = call) -> None:
            while await call.read() is not grpc.aio.EOF:
                pass

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listen())
            refusals = 0
            while sent and refusals < REFUSALS_MAX - 1:
                frame = sent.pop()
                refusals += refusal_of(frame) is not None
                await call.write(frame)
            await call.done_writing()


@pytest.mark.parametrize("kind", ["hello", "rumours", "digest", "versions", "want", "answer"])
async def test_ten_thousand_mutants_are_each_refused_with_a_reason_or_do_no_harm(kind: str, until: Until) -> None:
    timing = StaticTiming(greet_s=0.1)
    me = Member("victim", 1, "127.0.0.1:5001", "127.0.0.1:0")
    async with (
        Gossip.running(GossipConfig(me, "127.0.0.1:0"), StaticMembership([], timing=timing)) as victim,
        Gossip.running(
            GossipConfig(Member("mallory", 1, "127.0.0.2:5001", "127.0.0.2:0"), "127.0.0.2:0"),
            StaticMembership([victim.me.gossip_addr], timing=timing),
        ) as mallory,
        grpc.aio.insecure_channel(victim.me.gossip_addr) as channel,
    ):
        await until(lambda: victim.statistics().exchanged_with == {"mallory"})
        rng = random.Random(kind)
        frame = encode_frame(frames(mallory.me, victim.me)[kind])
        mutants = [mutated(frame, rng) for _ in range(MUTANTS)]
        refused = Counter(reason for mutant in mutants if (reason := refusal_of(mutant)) is not None)
        assert refused.total() > MUTANTS / 10
        await send_all(channel, encode_frame(Hello(mallory.me)), mutants)
        await until(lambda: all(victim.statistics().refused.get(reason) == n for reason, n in refused.items()))
        statistics = victim.statistics()
        assert statistics.members[MemberState.ALIVE] <= 2
        assert statistics.index_bytes < 1 << 20
        mallory.advertise([key_hash("still here")])
        victim.advertise([key_hash("so am I")])
        await until(lambda: mallory.holders(key_hash("so am I")) == [victim.me])


async def test_greetings_that_are_none_are_refused_and_the_next_is_answered() -> None:
    config = GossipConfig(Member("victim", 1, "127.0.0.1:5001", "127.0.0.1:0"), "127.0.0.1:0")
    async with (
        Gossip.running(config, StaticMembership([])) as victim,
        grpc.aio.insecure_channel(victim.me.gossip_addr) as channel,
    ):
        rng = random.Random(1)
        greeting = encode_greeting(Greeting(Member("caller", 1, "127.0.0.9:1", "127.0.0.9:2")))
        greet = channel.unary_unary(GREET)
        answers: Counter[str] = Counter()
        for _ in range(MUTANTS // 10):
            calls = [greet(mutated(greeting, rng)) for _ in range(10)]
            answers.update(code.name for code in await asyncio.gather(*(call.code() for call in calls)))
        assert set(answers) == {"OK", "INVALID_ARGUMENT"}
        assert sum(victim.statistics().refused.values()) == answers["INVALID_ARGUMENT"] > MUTANTS / 10


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff" * 100, id="noise"),
        pytest.param(encode_frame(Digest((0,) * BUCKETS)), id="a message without a Hello"),
    ],
)
async def test_a_conversation_begins_with_a_hello(first: bytes) -> None:
    config = GossipConfig(Member("victim", 1, "127.0.0.1:5001", "127.0.0.1:0"), "127.0.0.1:0")
    async with (
        Gossip.running(config, StaticMembership([])) as victim,
        grpc.aio.insecure_channel(victim.me.gossip_addr) as channel,
    ):
        call = channel.stream_stream(EXCHANGE)()
        await call.write(first)
        assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert sum(victim.statistics().refused.values()) == 1
