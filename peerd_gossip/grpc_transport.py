"""Carries messages between members over gRPC: one conversation with each peer, kept open while it is used.

What is to be sent waits in a queue of bounded bytes for each peer. A peer that reads slowly fills its own queue and no
other; what does not fit is dropped and counted, as replication repairs what is lost. Whoever needs a conversation
opens it, and both sides then speak over it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import grpc
import grpc.aio

from peerd_gossip._tasks import OwnedTasks, owned_tasks
from peerd_gossip.channels import Channels
from peerd_gossip.errors import GossipUnavailable, MessageRefused, PeerUnavailable
from peerd_gossip.link import Link
from peerd_gossip.member import Member, MemberId
from peerd_gossip.messages import (
    FRAME_BYTES_MAX,
    Greeting,
    Hello,
    Message,
    Roster,
    decode_frame,
    decode_greeting,
    decode_roster,
    encode_frame,
    encode_greeting,
    encode_roster,
)
from peerd_gossip.tls import TlsFiles, is_named, server_credentials, tls_name

log = logging.getLogger(__name__)

SERVICE = "peerd.gossip.v1.Gossip"
EXCHANGE = f"/{SERVICE}/Exchange"
GREET = f"/{SERVICE}/Greet"
HELLO_S = 5.0
REOPEN_S = 1.0
CALLS_MAX = 1024  # at once, at the door
LINK_IDLE_S = 60.0
STOP_S = 0.5
SWEEP_S = 30.0
REFUSALS_MAX = 100  # in one conversation, before it is ended

_OPTIONS = [
    ("grpc.max_receive_message_length", FRAME_BYTES_MAX),
    ("grpc.max_send_message_length", FRAME_BYTES_MAX),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.enable_http_proxy", 0),  # members are never reached through a proxy
]
_SERVER_OPTIONS = [
    *_OPTIONS,
    ("grpc.so_reuseport", 0),  # a port that is taken is an error
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_concurrent_streams", 64),
]


class Listener(Protocol):
    """Who is told what comes in; called on the event loop."""

    def on_message(self, message: Message, sender: MemberId) -> None:
        """A message of a member that has said who it is (and, with TLS, has shown it)."""

    def on_greeting(self, greeting: Greeting) -> Roster:
        """Somebody greets; the answer begins with this node itself."""

    def on_hello(self, member: Member) -> None:
        """A member has opened a conversation."""


@dataclass(slots=True)
class TransportCounters:
    """Payload in bytes, without what HTTP/2 and TLS add."""

    bytes_sent: int = 0
    bytes_received: int = 0
    frames_dropped: int = 0
    refused: dict[str, int] = field(default_factory=dict)  # by reason

    def refuse(self, reason: str) -> None:
        """One message from outside was refused."""
        self.refused[reason] = self.refused.get(reason, 0) + 1


class GrpcTransport:
    """The gossip door of one member, and its conversations with others."""

    def __init__(self, listener: Listener, tls: TlsFiles | None) -> None:
        self.counters = TransportCounters()
        self._listener = listener
        self._tls = tls
        self._hello = b""
        self._me: Member | None = None
        self._tasks: OwnedTasks | None = None
        self._links: dict[MemberId, Link] = {}
        self._serving: set[Link] = set()  # conversations that were opened by others
        self._clients: dict[MemberId, asyncio.Task[None]] = {}  # conversations that were opened here
        self._shut_until: dict[MemberId, float] = {}  # a conversation failed: it is not opened again before
        self._channels = Channels(tls, _OPTIONS)
        self._door_is_shut = asyncio.Event()
        self._encoded: tuple[Message | None, bytes] = (None, b"")

    @asynccontextmanager
    async def running(self, bind: str, named: Callable[[int], Member]) -> AsyncIterator[None]:
        """Serve at `bind`; `named` is told the port that was bound, and returns who this member is.

        Raises GossipUnavailable when the address can not be bound or the certificates can not be used.
        """
        server = grpc.aio.server(options=_SERVER_OPTIONS, maximum_concurrent_rpcs=CALLS_MAX)
        server.add_generic_rpc_handlers((self._handlers(),))
        self._me = named(self._bind(server, bind))
        self._hello = encode_frame(Hello(self._me))
        await server.start()
        try:
            async with owned_tasks() as tasks:
                self._tasks = tasks
                tasks.start(self._sweep(), name="gossip channels")
                try:
                    yield
                finally:
                    self._tasks = None
                    for link in self._serving:
                        link.close()
        finally:
            await server.stop(grace=STOP_S)  # conversations have been ended above: nothing is left to wait for
            await self._channels.close()

    def send(self, member: Member, message: Message) -> bool:
        """Queue a message; False when it was dropped, because the member is too far behind or did not answer just now."""
        link = self._links.get(member.id) or self._open(member)
        if link is None or not link.put(self._encode(message)):
            self.counters.frames_dropped += 1
            return False
        return True

    def hang_up(self, member: MemberId) -> None:
        """The member is gone: nothing more is sent to it."""
        self._shut_until.pop(member, None)
        client = self._clients.get(member)
        if client is not None:
            client.cancel()

    async def finish(self) -> None:
        """Send all that is queued and end the conversations: the others have it when this returns. The caller bounds the time."""
        links = {*self._links.values(), *self._serving}
        for link in links:
            link.close()
        if self._clients:
            await asyncio.wait(list(self._clients.values()))
        for link in links:
            await link.drained()

    async def greet(self, address: str, name: str | None, *, leaving: bool = False, timeout_s: float) -> Roster:
        """See membership.Greeter."""
        if self._me is None:
            raise GossipUnavailable("nobody can be greeted before the gossip door is open")
        greeting = encode_greeting(Greeting(self._me, leaving))
        try:
            answer = await self._channels.to(address, name).unary_unary(GREET)(greeting, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            self._failed(address, name, error)
            raise PeerUnavailable(f"{name or 'a node'} at {address}: {error.code().name}, {error.details()}") from error
        except GossipUnavailable as error:  # our certificates are just being replaced
            raise PeerUnavailable(f"{name or 'a node'} at {address} can not be asked: {error}") from error
        self.counters.bytes_sent += len(greeting)
        self.counters.bytes_received += len(answer)
        return decode_roster(answer)

    # The side that opens

    def _open(self, member: Member) -> Link | None:
        if self._tasks is None or self._shut_until.get(member.id, 0.0) > time.monotonic():
            return None
        link = self._links[member.id] = Link()
        self._clients[member.id] = self._tasks.start(self._converse(member, link), name=f"gossip with {member.name}")
        return link

    async def _converse(self, member: Member, link: Link) -> None:
        call = self._channels.to(member.gossip_addr, member.name).stream_stream(EXCHANGE)()
        try:
            await call.write(self._hello)
            async with asyncio.timeout(HELLO_S):
                first = await call.read()
            if first is not grpc.aio.EOF and decode_frame(first) == Hello(member):
                await self._both_ways(call, link, member.id, idle_s=LINK_IDLE_S)
            else:
                log.info("at %s is not %s in its life %d any more", member.gossip_addr, member.name, member.life)
        except (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError, TimeoutError) as error:
            log.debug("no conversation with %s: %r", member.name, error)
            self._failed(member.gossip_addr, member.name, error)
        except MessageRefused as refusal:
            self.counters.refuse(refusal.reason)
        except Exception:  # a fault of ours must not end the conversations with all others
            log.exception("the conversation with %s failed", member.name)
        finally:
            call.cancel()
            self._shut_until[member.id] = time.monotonic() + REOPEN_S
            self._clients.pop(member.id, None)
            self._unlink(member.id, link)

    def _unlink(self, member: MemberId, link: Link) -> None:
        if self._links.get(member) is link:
            del self._links[member]

    def _failed(self, address: str, name: str | None, error: Exception) -> None:
        if self._channels.failed(address, name, error):
            self._door_is_shut.set()

    async def _sweep(self) -> None:
        """Close channels that nobody needs; they are opened anew on need."""
        while True:
            self._door_is_shut.clear()
            try:
                async with asyncio.timeout(SWEEP_S):
                    await self._door_is_shut.wait()
            except TimeoutError:
                pass
            now = time.monotonic()
            self._shut_until = {member: until for member, until in self._shut_until.items() if until > now}
            await self._channels.sweep()

    # The side that is asked

    def _bind(self, server: grpc.aio.Server, bind: str) -> int:
        try:
            if self._tls is None:
                return int(server.add_insecure_port(bind))
            return int(server.add_secure_port(bind, server_credentials(self._tls)))
        except (RuntimeError, ValueError) as error:
            raise GossipUnavailable(f"the gossip door can not be opened at {bind}: {error}") from error

    def _handlers(self) -> grpc.GenericRpcHandler:
        """Requests come as bytes: parsing them is messages.py's business, and so are its errors."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Exchange": grpc.stream_stream_rpc_method_handler(self._serve_exchange),
                "Greet": grpc.unary_unary_rpc_method_handler(self._serve_greet),
            },
        )

    async def _serve_greet(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.counters.bytes_received += len(request)
        try:
            greeting = decode_greeting(request)
            self._check_name(greeting.member, context)
        except MessageRefused as refusal:
            self.counters.refuse(refusal.reason)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(refusal))
        answer = encode_roster(self._listener.on_greeting(greeting))
        self.counters.bytes_sent += len(answer)
        return answer

    async def _serve_exchange(self, _: object, context: grpc.aio.ServicerContext) -> None:
        try:
            async with asyncio.timeout(HELLO_S):
                first = await context.read()
            member = self._introduced(first, context)
        except MessageRefused as refusal:
            self.counters.refuse(refusal.reason)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(refusal))
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"no Hello within {HELLO_S} s")
        await context.write(self._hello)
        self._listener.on_hello(member)
        link = Link()
        self._links.setdefault(member.id, link)
        self._serving.add(link)
        try:
            await self._both_ways(context, link, member.id, idle_s=None)
        finally:
            self._serving.discard(link)
            self._unlink(member.id, link)

    def _introduced(self, first: bytes, context: grpc.aio.ServicerContext) -> Member:
        if first is grpc.aio.EOF:
            raise MessageRefused("malformed", "a conversation without a word")
        self.counters.bytes_received += len(first)
        hello = decode_frame(first)
        if not isinstance(hello, Hello):
            raise MessageRefused("protocol", "a conversation that does not begin with a Hello")
        self._check_name(hello.member, context)
        return hello.member

    def _check_name(self, member: Member, context: grpc.aio.ServicerContext) -> None:
        if self._tls is not None and not is_named(context.auth_context(), member.name):
            raise MessageRefused("impostor", f"the certificate shown is not that of {tls_name(member.name)}")

    # Both sides

    async def _both_ways(
        self,
        call: grpc.aio.ServicerContext | grpc.aio.StreamStreamCall,
        link: Link,
        sender: MemberId,
        idle_s: float | None,
    ) -> None:
        """Read and write until one of the two ends."""
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(self._read(call, link, sender))
            writer = tasks.create_task(self._write(call, link, idle_s))
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
            if not reader.done() and isinstance(call, grpc.aio.StreamStreamCall):
                # What was written is on its way, and a call that is cancelled takes it back: the other side ends it, having read all.
                await call.done_writing()
                await asyncio.wait((reader,), timeout=STOP_S)
            reader.cancel()
            writer.cancel()

    async def _read(
        self, call: grpc.aio.ServicerContext | grpc.aio.StreamStreamCall, link: Link, sender: MemberId
    ) -> None:
        refusals = 0
        while refusals < REFUSALS_MAX:
            try:
                frame = await call.read()
            except (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError):
                return
            if frame is grpc.aio.EOF:
                return
            self.counters.bytes_received += len(frame)
            link.used_at = time.monotonic()
            try:
                message = _message(frame)
            except MessageRefused as refusal:
                self.counters.refuse(refusal.reason)
                if refusals == 0:  # one line for a conversation: who floods us does not flood the log
                    log.warning(
                        "a message of member %016x was refused (%s); others of it are only counted", sender, refusal
                    )
                refusals += 1
                continue
            self._listener.on_message(message, sender)

    async def _write(
        self, call: grpc.aio.ServicerContext | grpc.aio.StreamStreamCall, link: Link, idle_s: float | None
    ) -> None:
        while True:
            try:
                async with asyncio.timeout(idle_s):
                    frame = await link.get()
            except TimeoutError:
                if idle_s is not None and time.monotonic() - link.used_at > idle_s:
                    return
                continue
            if frame is None:
                return
            try:
                await call.write(frame)
            except (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError):
                return
            self.counters.bytes_sent += len(frame)

    def _encode(self, message: Message) -> bytes:
        """A round of rumours is one message to several members: it is encoded once."""
        if self._encoded[0] is not message:
            self._encoded = (message, encode_frame(message))
        return self._encoded[1]


def _message(frame: bytes) -> Message:
    message = decode_frame(frame)
    if isinstance(message, Hello):
        raise MessageRefused("protocol", "a second Hello")
    return message
