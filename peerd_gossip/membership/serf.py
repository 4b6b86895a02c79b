"""Membership by HashiCorp Serf: SWIM with Lifeguard, done by an agent beside us (a child, or one that runs already).

What we are is told in the agent's tags, and what others are is read from theirs: so members are found whoever started
their agents, and agents of other programs in the same cluster are passed over. Our child's name in Serf is
`<name>.<life>`, new at each start: under one name Serf would refuse a member that comes back at another address.

Three things keep the picture true: the agent's event stream; the whole list of members, which is read again every few
seconds and whenever a member speaks to us whom we do not know yet (the stream tells a second late); and, when the agent
dies, the last picture, which stands until its successor has had time to find everybody again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from peerd_gossip._tasks import owned_tasks
from peerd_gossip.errors import SerfError, SerfUnavailable
from peerd_gossip.member import Member, MemberState, join_address, split_address
from peerd_gossip.membership.interface import Greeter, Report
from peerd_gossip.membership.serf_agent import Agent, AgentConfig, agent_running, check_tags, ended
from peerd_gossip.membership.serf_client import SerfClient
from peerd_gossip.membership.serf_rpc import Coordinate, SerfMember

log = logging.getLogger(__name__)

JOIN_AT_ONCE = 3
"""An agent dials all the addresses that it is given, one after the other: it is given a few."""


@dataclass(frozen=True, slots=True)
class SerfTiming:
    """All in seconds."""

    start_s: float = 10.0
    """For an agent to answer after its start."""
    sync_s: float = 5.0
    """Between two readings of the whole list; shorter mends a lost event sooner, at about 200 kB for 1,000 members."""
    sync_soon_s: float = 0.25
    """The same, at least, when a member speaks whom we do not know."""
    join_s: float = 1.0
    """Between two attempts to join while nobody is reached; doubles up to ten times as much."""
    settle_s: float = 15.0
    """After its start an agent may not know somebody whom we know: for so long nobody is failed by its silence."""
    restart_s: float = 0.5
    """Before a dead agent's successor is started; doubles up to ten times as much while starts fail."""
    coordinates_s: float = 30.0
    leave_s: float = 5.0


@dataclass(frozen=True, slots=True)
class SerfConfig:
    """How membership by Serf is set up.

    With `rpc_addr` an agent that runs already is used: it is given our tags, which are taken away when we leave, and it
    stays in its cluster. Else an agent of our own is started with `bind` and the rest.
    """

    join: Sequence[str] = ()
    """`host:port` of members' bind addresses (port 7946 if none is given); names are resolved, a few addresses tried."""
    bind: str = "0.0.0.0:7946"
    advertise: str | None = None
    """`host:port` where others reach what is bound; Serf takes 7946 for a port that is not said, whatever `bind` says."""
    key: str | None = None
    """Encryption key in base64; `serf_agent.read_key` reads one from a file."""
    state: Path | None = None
    rpc_addr: str | None = None
    rpc_auth: str | None = None
    executable: str = "serf"
    profile: str = "lan"
    timing: SerfTiming = SerfTiming()


class SerfMembership:
    """An agent, watched; its members, reported."""

    def __init__(
        self,
        config: SerfConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._config = config
        self._join = [split_address(address if ":" in address else f"{address}:7946") for address in config.join]
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311  no secret depends on it
        self._members: dict[str, Member] = {}  # by their name in Serf: those reported alive
        self._addresses: dict[str, str] = {}  # of the agents of the same: where they can be joined
        self._agent_alone = True  # our agent knows nobody else who is alive
        self._former: set[str] = set()  # our own former lives, by their name in Serf, that Serf still hopes for
        self._coordinates: dict[str, Coordinate] = {}  # by member's name
        self._sync_now = asyncio.Event()
        self._leaving = False
        self._agent: Agent | None = None
        self._client: SerfClient | None = None

    @asynccontextmanager
    async def running(self, me: Member, greeter: Greeter, report: Report) -> AsyncIterator[None]:
        """See Membership. Raises MembershipError when the first agent can not be started or reached."""
        del greeter
        check_tags(tags_of(me))
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        async with owned_tasks() as tasks:
            tasks.start(self._keep_running(me, report, started), name="serf membership")
            await started
            yield

    def heard_from(self, member: Member) -> None:
        """Somebody speaks whom the agent may know already, though its events have not come yet: look at once."""
        if member not in self._members.values():
            self._sync_now.set()

    def is_still_here(self, member: Member) -> None:
        """The agent finds out for itself."""

    async def leave(self) -> None:
        """The agent leaves; one that is not ours loses our tags."""
        self._leaving = True
        client, agent = self._client, self._agent
        if client is None:
            return
        try:
            async with asyncio.timeout(self._config.timing.leave_s):
                if agent is None:
                    await client.set_tags({}, delete=list(_TAGS))
                else:
                    await client.leave()
                    await ended(agent)
        except (SerfError, SerfUnavailable, TimeoutError) as error:
            # It goes on telling for seconds when members leave at the same time; those that stay have been told at once.
            log.info("the Serf agent is ended before it has left: %s", str(error) or "time is up")

    def round_trip_estimate(self, name: str) -> float | None:
        """By Serf's network coordinates, of at most half a minute ago."""
        mine, theirs = self._coordinates.get(_ME), self._coordinates.get(name)
        if mine is None or theirs is None or len(mine.vector) != len(theirs.vector):
            return None
        return mine.round_trip_to(theirs)

    # The agent

    async def _keep_running(self, me: Member, report: Report, started: asyncio.Future[None]) -> None:
        """One agent after the other. Before the first has answered, what is wrong is an error of the start."""
        pause = self._config.timing.restart_s
        while True:
            began = self._clock()
            failure: Exception | None = None
            try:
                async with self._connected(me) as client:
                    pause = self._config.timing.restart_s
                    await self._watch(client, me, report, started)
            except* (SerfError, SerfUnavailable) as failures:  # several connections are lost at once
                failure = failures.exceptions[0]
            if not started.done():
                started.set_exception(failure or SerfUnavailable("the Serf agent has ended at its start"))
                return
            if self._leaving:
                return
            log.warning("%s; members stay as they were, and the agent is started or called again", failure)
            if self._clock() - began < self._config.timing.settle_s:
                await asyncio.sleep(pause)
                pause = min(pause * 2, self._config.timing.restart_s * 10)

    @asynccontextmanager
    async def _connected(self, me: Member) -> AsyncIterator[SerfClient]:
        config = self._config
        async with AsyncExitStack() as stack:
            rpc_addr, auth_key = config.rpc_addr, config.rpc_auth
            if rpc_addr is None:
                agent = await stack.enter_async_context(agent_running(self._agent_config(me)))
                self._agent = agent
                rpc_addr, auth_key = agent.rpc_addr, agent.auth_key
                await self._answers(agent)
            client = await stack.enter_async_context(SerfClient.connected(rpc_addr, auth_key=auth_key))
            if config.rpc_addr is not None:
                await client.set_tags(tags_of(me))
            self._client = client
            try:
                yield client
            finally:
                self._client = self._agent = None

    def _agent_config(self, me: Member) -> AgentConfig:
        config = self._config
        return AgentConfig(
            node=f"{me.name}.{me.life}",
            bind=config.bind,
            tags=tags_of(me),
            advertise=config.advertise,
            key=config.key,
            state=config.state,
            executable=config.executable,
            profile=config.profile,
        )

    async def _answers(self, agent: Agent) -> None:
        """Wait until the agent's RPC answers; SerfUnavailable when it has ended, or takes too long."""
        deadline = self._clock() + self._config.timing.start_s
        while True:
            if agent.process.returncode is not None:
                await asyncio.sleep(0.05)  # for its last words to be read
                raise SerfUnavailable(f"the Serf agent has ended at its start, {agent.why_it_ended()}")
            try:
                async with SerfClient.connected(agent.rpc_addr, auth_key=agent.auth_key, timeout_s=1.0):
                    return
            except SerfUnavailable:
                if self._clock() > deadline:
                    raise
            await asyncio.sleep(0.05)

    # What it says

    async def _watch(self, client: SerfClient, me: Member, report: Report, started: asyncio.Future[None]) -> None:
        """Report members until the connection ends."""
        settled_at = self._clock() + (self._config.timing.settle_s if started.done() else 0.0)
        await self._sync(client, me, report, settled=False)
        if not started.done():
            started.set_result(None)
        async with AsyncExitStack() as stack:
            rpc_addr = self._config.rpc_addr or (self._agent.rpc_addr if self._agent else "")
            auth_key = self._agent.auth_key if self._agent else self._config.rpc_auth
            connections = [
                await stack.enter_async_context(SerfClient.connected(rpc_addr, auth_key=auth_key)) for _ in range(2)
            ]
            tasks = await stack.enter_async_context(owned_tasks())
            tasks.start(self._events(connections[0], me, report), name="serf events")
            tasks.start(self._joining(connections[1]), name="serf join")
            tasks.start(self._locating(client, me), name="serf coordinates")
            while True:
                self._sync_now.clear()
                await self._sync(client, me, report, settled=self._clock() >= settled_at)
                await asyncio.sleep(self._config.timing.sync_soon_s)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._config.timing.sync_s):
                        await self._sync_now.wait()

    async def _events(self, client: SerfClient, me: Member, report: Report) -> None:
        async for event in client.events():
            for member in event.members:
                self._report(member, me, report)

    async def _sync(self, client: SerfClient, me: Member, report: Report, *, settled: bool) -> None:
        """The whole list. Whoever is not in it has been reaped, or, while not `settled`, has not been found again yet."""
        listed = await client.members()
        for member in listed:
            self._report(member, me, report)
        self._agent_alone = sum(member.status == "alive" for member in listed) <= 1
        if settled:
            names = {member.name for member in listed}
            for name in [name for name in self._members if name not in names]:
                self._addresses.pop(name, None)
                report(self._members.pop(name), MemberState.FAILED)

    def _report(self, seen: SerfMember, me: Member, report: Report) -> None:
        member = member_of(seen)
        if member is not None and member.name == me.name and member.life < me.life:
            if seen.status in ("alive", "failed"):
                self._former.add(seen.name)
            return
        if seen.status == "alive" and member is not None:
            before = self._members.get(seen.name)
            if before is not None and before.id != member.id:
                report(before, MemberState.FAILED)  # its agent goes on with another life
            self._members[seen.name] = member
            if seen.address and member.id != me.id:
                self._addresses[seen.name] = join_address(seen.address, seen.port)
            report(member, MemberState.ALIVE)
            return
        known = self._members.pop(seen.name, None) if seen.status != "leaving" else None
        if known is not None:
            # Alive without our tags: the agent stays, its peerd has left.
            report(known, MemberState.FAILED if seen.status == "failed" else MemberState.LEFT)

    # What it is asked

    async def _joining(self, client: SerfClient) -> None:
        """Join somebody, again when everybody is lost; and have our former lives forgotten."""
        pause = self._config.timing.join_s
        while True:
            if self._agent_alone:
                joined = await self._join_some(client)
                pause = self._config.timing.join_s if joined else min(pause * 2, self._config.timing.join_s * 10)
                if joined:
                    self._sync_now.set()
            while self._former:
                name = self._former.pop()
                log.info("the former life %s is over", name)
                with suppress(SerfError):
                    await client.force_leave(name)
            await asyncio.sleep(pause)

    async def _join_some(self, client: SerfClient) -> bool:
        addresses = await self._resolved()
        if not addresses:
            return False
        try:
            return await client.join(addresses, timeout_s=12.0 * len(addresses)) > 0
        except SerfError as error:
            log.info("nobody is joined yet: %s", error)
            return False

    async def _resolved(self) -> list[str]:
        """A few addresses at random."""
        loop = asyncio.get_running_loop()
        found = dict.fromkeys(self._addresses.values())  # who was there before our agent died may be there still
        for host, port in self._join:
            try:
                answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except OSError as error:
                log.warning("%s can not be resolved (%s); it is tried again", host, error)
                continue
            for *_, address in answers:
                found[join_address(str(address[0]), port)] = None
        own = {self._config.bind, self._config.advertise}
        others = [address for address in found if address not in own]
        return self._rng.sample(others, min(JOIN_AT_ONCE, len(others)))

    async def _locating(self, client: SerfClient, me: Member) -> None:
        """Ask for coordinates, one after the other and not too fast: they change slowly.

        An agent learns them as it probes, one member a second: until it has all, those that are lacking are asked for sooner.
        """
        pause = 1.0
        while True:
            before = len(self._coordinates)
            for serf_name, member in list(self._members.items()):
                coordinate = await client.coordinate(serf_name)
                name = _ME if member.id == me.id else member.name
                if coordinate is not None:
                    self._coordinates[name] = coordinate
                await asyncio.sleep(0.02)
            names = {member.name for member in self._members.values()} | {_ME}
            self._coordinates = {name: found for name, found in self._coordinates.items() if name in names}
            found = len(self._coordinates)
            pause = 1.0 if before < found < len(self._members) else min(pause * 2, self._config.timing.coordinates_s)
            await asyncio.sleep(pause)


_ME = ""  # no member's name
_TAGS = {"pn": "name", "pl": "life", "pp": "peer_addr", "pg": "gossip_addr", "pz": "zone", "pv": "version"}
"""Tags and the fields of Member that they carry; short, as Serf takes 512 bytes in all."""


def tags_of(me: Member) -> dict[str, str]:
    """A member as tags of its agent."""
    return {tag: str(getattr(me, field)) for tag, field in _TAGS.items()}


def member_of(seen: SerfMember) -> Member | None:
    """The member that an agent's tags tell of; None when they tell of none."""
    tags = seen.tags
    try:
        return Member(
            name=tags["pn"],
            life=int(tags["pl"]),
            peer_addr=tags["pp"],
            gossip_addr=tags["pg"],
            zone=tags.get("pz", ""),
            version=tags.get("pv", ""),
        )
    except (KeyError, ValueError):
        return None
