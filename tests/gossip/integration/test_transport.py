"""The transport by itself: a member that does not read, one that is not there, one in another life."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import grpc.aio
import pytest

from peerd_gossip.errors import PeerUnavailable
from peerd_gossip.grpc_transport import SERVICE, GrpcTransport
from peerd_gossip.link import QUEUE_BYTES_MAX
from peerd_gossip.member import Member, MemberId, MemberState
from peerd_gossip.messages import Answer, Delta, Digest, Greeting, Hello, Message, Roster, Stamp, encode_frame

Until = Callable[..., Awaitable[None]]
LARGE = Answer(
    tuple(Delta(Stamp(MemberId(1), 1, version), tuple(range(1 << 63, (1 << 63) + 100))) for version in range(500))
)
SMALL = Digest(tuple(range(64)))


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.messages: list[tuple[Message, MemberId]] = []

    def on_message(self, message: Message, sender: MemberId) -> None:
        self.messages.append((message, sender))

    def on_greeting(self, greeting: Greeting) -> Roster:
        return ((greeting.member, MemberState.ALIVE),)

    def on_hello(self, member: Member) -> None:
        pass


@contextlib.asynccontextmanager
async def door(host: str, name: str, life: int = 1) -> AsyncIterator[tuple[GrpcTransport, Heard, Member]]:
    heard = Heard()
    transport = GrpcTransport(heard, None)
    bound: list[Member] = []

    def named(port: int) -> Member:
        bound.append(Member(name, life, f"{host}:1", f"{host}:{port}"))
        return bound[0]

    async with transport.running(f"{host}:0", named):
        yield transport, heard, bound[0]


@contextlib.asynccontextmanager
async def deaf_member(host: str) -> AsyncIterator[Member]:
    """Says Hello, and then reads nothing at all."""
    members: list[Member] = []

    async def exchange(_: object, context: grpc.aio.ServicerContext) -> None:
        await context.write(encode_frame(Hello(members[0])))
        await asyncio.Event().wait()

    server = grpc.aio.server()
    handlers = {"Exchange": grpc.stream_stream_rpc_method_handler(exchange)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    members.append(Member("deaf", 1, f"{host}:1", f"{host}:{server.add_insecure_port(f'{host}:0')}"))
    await server.start()
    try:
        yield members[0]
    finally:
        await server.stop(grace=None)


async def test_a_member_that_does_not_read_fills_its_own_queue_and_slows_nobody(until: Until) -> None:
    async with (
        deaf_member("127.0.0.2") as deaf,
        door("127.0.0.3", "other") as (_, heard, other),
        door("127.0.0.1", "me") as (transport, _, me),
    ):
        size = len(encode_frame(LARGE))
        sent = 0
        while transport.send(deaf, LARGE):
            sent += 1
            assert sent * size < QUEUE_BYTES_MAX + (64 << 20), "what waits is bounded"
            await asyncio.sleep(0)
        assert transport.counters.frames_dropped == 1
        assert transport.send(other, SMALL)
        await until(lambda: heard.messages == [(SMALL, me.id)])


async def test_both_sides_speak_over_the_conversation_that_one_has_opened(until: Until) -> None:
    async with (
        door("127.0.0.1", "a") as (a, heard_a, member_a),
        door("127.0.0.2", "b") as (b, heard_b, member_b),
    ):
        a.send(member_b, SMALL)
        await until(lambda: heard_b.messages == [(SMALL, member_a.id)])
        b.send(member_a, LARGE)
        await until(lambda: heard_a.messages == [(LARGE, member_b.id)])
        assert not b._clients, "no second conversation was opened"


async def test_a_life_that_is_over_is_not_mistaken_for_the_next_at_the_same_address(until: Until) -> None:
    async with (
        door("127.0.0.1", "a") as (a, _, _),
        door("127.0.0.2", "b", life=2) as (_, heard, now),
    ):
        former = Member("b", 1, now.peer_addr, now.gossip_addr)
        a.send(former, SMALL)
        await until(lambda: former.id not in a._links)
        assert heard.messages == []
        assert not a.send(former, SMALL), "it is left alone for a while"
        a.send(now, SMALL)
        await until(lambda: len(heard.messages) == 1)


async def test_nobody_at_an_address_is_an_error_and_what_was_to_be_sent_is_dropped(until: Until) -> None:
    async with door("127.0.0.1", "a") as (a, _, _):
        async with door("127.0.0.2", "b") as (_, _, gone):
            pass
        with pytest.raises(PeerUnavailable):
            await a.greet(gone.gossip_addr, "b", timeout_s=2.0)
        a.send(gone, SMALL)
        await until(lambda: gone.id not in a._links)
        assert not a.send(gone, SMALL)


async def test_what_was_queued_has_arrived_when_it_is_finished(until: Until) -> None:
    async with door("127.0.0.2", "b") as (_, heard, b), door("127.0.0.1", "a") as (a, _, me):
        a.send(b, SMALL)
        async with asyncio.timeout(20):
            await a.finish()
        assert heard.messages == [(SMALL, me.id)]


async def test_a_member_that_is_gone_is_hung_up_on(until: Until) -> None:
    async with door("127.0.0.1", "a") as (a, _, _), door("127.0.0.2", "b") as (b, heard, member):
        a.send(member, SMALL)
        await until(lambda: heard.messages)
        a.hang_up(member.id)
        await until(lambda: not a._clients and not b._serving)
