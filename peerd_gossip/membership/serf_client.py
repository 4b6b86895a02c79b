"""A client of a Serf agent's RPC, for asyncio: requests with time-outs, and member events as they happen.

An agent works on the requests of one connection one after the other, and a join can take it half a minute: what must not
wait has a connection of its own. A connection that is lost is lost: whoever made it makes another (serf.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from peerd_gossip._tasks import owned_tasks
from peerd_gossip.errors import SerfError, SerfUnavailable
from peerd_gossip.member import split_address
from peerd_gossip.membership.serf_rpc import (
    IPC_VERSION,
    Body,
    Coordinate,
    Record,
    Response,
    SerfConnection,
    SerfEvent,
    SerfMember,
    coordinate_in,
    event_in,
    joined_in,
    members_in,
    statistics_in,
)

READ_BYTES = 64 << 10
EVENTS_MAX = 4096
MEMBER_EVENTS = "member-join,member-leave,member-failed,member-update,member-reap"


class SerfClient:
    """One connection to an agent; `connected` makes one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout_s: float) -> None:
        self._reader = reader
        self._writer = writer
        self._timeout_s = timeout_s
        self._connection = SerfConnection()
        self._waiting: dict[int, asyncio.Future[Response]] = {}
        self._events: asyncio.Queue[SerfEvent | None] = asyncio.Queue(EVENTS_MAX)
        self._lost: SerfError | SerfUnavailable | None = None

    @classmethod
    @asynccontextmanager
    async def connected(
        cls, address: str, *, auth_key: str | None = None, timeout_s: float = 5.0
    ) -> AsyncIterator[SerfClient]:
        """A connection that has shaken hands, and has authenticated when there is a key.

        Raises SerfUnavailable when there is nobody at `address`, SerfError when the agent refuses or is none. Each
        request raises the same when the agent does not answer it within `timeout_s`, or answers with an error.
        """
        host, port = split_address(address)
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_connection(host, port)
        except (OSError, TimeoutError) as error:
            raise SerfUnavailable(f"no Serf agent answers at {address}: {error or 'time is up'}") from error
        client = cls(reader, writer, timeout_s)
        try:
            async with owned_tasks() as tasks:
                tasks.start(client._read(), name=f"serf at {address}")
                await client._ask("handshake", {"Version": IPC_VERSION})
                if auth_key is not None:
                    await client._ask("auth", {"AuthKey": auth_key})
                yield client
        finally:
            writer.close()

    async def members(self) -> tuple[SerfMember, ...]:
        """Everybody whom the agent knows, in whatever state."""
        return members_in(await self._ask("members-filtered", {"Tags": {}, "Status": "", "Name": ""}))

    async def join(self, addresses: Sequence[str], *, timeout_s: float) -> int:
        """Join at these addresses of agents; returns how many were reached, and raises SerfError when none was."""
        return joined_in(await self._ask("join", {"Existing": list(addresses), "Replay": False}, timeout_s=timeout_s))

    async def leave(self) -> None:
        """The agent leaves the cluster and ends."""
        await self._ask("leave")

    async def force_leave(self, name: str) -> None:
        """A member that failed will not come back: all agents are told."""
        await self._ask("force-leave", {"Node": name}, timeout_s=2 * self._timeout_s)  # it waits for its broadcast

    async def set_tags(self, tags: Mapping[str, str], *, delete: Sequence[str] = ()) -> None:
        """Set tags of the agent's own member, and delete others."""
        await self._ask("tags", {"Tags": dict(tags), "DeleteTags": list(delete)})

    async def coordinate(self, name: str) -> Coordinate | None:
        """Where the member is in the space of round trips; None while the agent does not know."""
        return coordinate_in(await self._ask("get-coordinate", {"Node": name}))

    async def statistics(self) -> dict[str, dict[str, str]]:
        """The agent's own statistics, by section."""
        return statistics_in(await self._ask("stats"))

    async def events(self) -> AsyncIterator[SerfEvent]:
        """Member events from now on. An agent tells a burst as one event, a second or so after it has begun.

        Raises SerfUnavailable when the connection is lost. To be used once on a connection.
        """
        await self._ask("stream", {"Type": MEMBER_EVENTS})
        while (event := await self._events.get()) is not None:
            yield event
        raise self._lost or SerfUnavailable("the connection to the Serf agent was closed")

    async def _ask(
        self, command: str, body: Mapping[str, object] | None = None, *, timeout_s: float | None = None
    ) -> Body:
        if self._lost is not None:
            raise self._lost
        seq, data = self._connection.request(command, body)
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._waiting[seq] = answer
        try:
            async with asyncio.timeout(timeout_s or self._timeout_s):
                self._writer.write(data)
                await self._writer.drain()
                response = await answer
        except TimeoutError as error:
            raise SerfUnavailable(f"the Serf agent did not answer {command} in time") from error
        except OSError as error:
            raise SerfUnavailable(f"the connection to the Serf agent was lost: {error}") from error
        finally:
            self._waiting.pop(seq, None)
        if response.error:
            raise SerfError(f"the Serf agent refused {command}: {response.error.strip()}")
        return response.body

    async def _read(self) -> None:
        """Hand out what comes until the connection ends, and then tell everybody who waits."""
        try:
            while data := await self._reader.read(READ_BYTES):
                for message in self._connection.receive(data):
                    self._hand_out(message)
            self._lost = SerfUnavailable("the Serf agent has closed the connection")
        except OSError as error:
            self._lost = SerfUnavailable(f"the connection to the Serf agent was lost: {error}")
        except SerfError as error:
            self._lost = error
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(self._lost)
        if self._events.full():
            self._events.get_nowait()
        self._events.put_nowait(None)

    def _hand_out(self, message: Response | Record) -> None:
        match message:
            case Response(seq):
                answer = self._waiting.get(seq)
                if answer is not None and not answer.done():
                    answer.set_result(message)
            case Record(_, body):
                if self._events.full():
                    raise SerfError(f"{EVENTS_MAX} events of the Serf agent wait: they are not taken")
                self._events.put_nowait(event_in(body))
