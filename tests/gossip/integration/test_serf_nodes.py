"""Nodes with real Serf agents, each on an address of its own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import pytest

from peerd_gossip import (
    Gossip,
    GossipConfig,
    Member,
    MembershipError,
    MemberState,
    SerfConfig,
    SerfMembership,
    SerfUnavailable,
    key_hash,
    read_key,
)
from peerd_gossip.membership.serf_client import SerfClient

Until = Callable[..., Awaitable[None]]
LIVES = itertools.count(int(time.time() * 1000))
KEY = base64.b64encode(bytes(range(32))).decode()
BLOB = key_hash("blob")


@pytest.fixture(autouse=True)
def serf() -> str:
    found = shutil.which("serf")
    assert found, "these tests need Debian's package serf: apt-get install serf"
    return found


@pytest.fixture
def hosts() -> Iterator[str]:
    """Loopback addresses that no other test of this run, or of one beside it, is likely to use."""
    net = f"127.{random.SystemRandom().randint(64, 250)}.{random.SystemRandom().randint(1, 250)}"
    return (f"{net}.{number}" for number in itertools.count(1))


def config(host: str, *join: str, **options: object) -> SerfConfig:
    return SerfConfig(join=join, bind=f"{host}:7946", key=KEY, **options)


def node(host: str, *join: str, name: str, **options: object) -> AbstractAsyncContextManager[Gossip]:
    me = Member(name, next(LIVES), f"{host}:5001", f"{host}:0", zone="z1", version="test")
    return Gossip.running(GossipConfig(me, f"{host}:0"), SerfMembership(config(host, *join, **options)))


def alive(gossip: Gossip) -> set[str]:
    return {member.name for member, state in gossip.members() if state is MemberState.ALIVE}


def agents_at(host: str) -> list[int]:
    """Processes of Serf agents that are bound to an address, from what the kernel knows of sockets and processes."""
    out = subprocess.run(["ss", "-Hltnp", f"src {host}:7946"], capture_output=True, text=True, check=True).stdout
    return [int(part.split(",")[0]) for part in out.split("pid=")[1:]]


async def test_three_nodes_find_each_other_from_one_join_and_exchange_filters(
    hosts: Iterator[str], until: Until
) -> None:
    async with AsyncExitStack() as stack:
        seed = next(hosts)
        a = await stack.enter_async_context(node(seed, name="a"))
        b = await stack.enter_async_context(node(next(hosts), f"{seed}:7946", name="b"))
        c = await stack.enter_async_context(node(next(hosts), seed, name="c"))
        for one in (a, b, c):
            await until(lambda one=one: alive(one) == {"a", "b", "c"})
            await until(lambda one=one: len(one.statistics().exchanged_with) == 2)
        b.advertise([BLOB])
        await until(lambda: a.holders(BLOB) == [b.me] and c.holders(BLOB) == [b.me])
        assert a.member("c") == c.me, "tags carry addresses, zone and version"
        await until(lambda: a.round_trip_estimate(b.me) is not None, within_s=20)
        estimate = a.round_trip_estimate(b.me)
        assert estimate is not None
        assert 0 <= estimate < 1


async def test_one_that_leaves_is_out_within_two_seconds_and_does_not_fail_afterwards(
    hosts: Iterator[str], until: Until
) -> None:
    async with AsyncExitStack() as stack:
        seed = next(hosts)
        a = await stack.enter_async_context(node(seed, name="a"))
        async with node(next(hosts), seed, name="b") as b:
            b.advertise([BLOB])
            await until(lambda: a.holders(BLOB) == [b.me])
            leaving = asyncio.create_task(b.leave())
            await until(lambda: not a.holders(BLOB), within_s=2, told="one that leaves is out")
            await leaving
        assert dict(a.members())[b.me] is MemberState.LEFT


async def test_an_agent_that_is_killed_is_replaced_and_nobody_is_missed_meanwhile(
    hosts: Iterator[str], until: Until
) -> None:
    async with AsyncExitStack() as stack:
        seed = next(hosts)
        a = await stack.enter_async_context(node(seed, name="a"))
        b = await stack.enter_async_context(node(next(hosts), seed, name="b"))
        b.advertise([BLOB])
        await until(lambda: a.holders(BLOB) == [b.me])
        [pid] = agents_at(seed)
        os.kill(pid, signal.SIGKILL)

        def replaced() -> bool:
            assert a.holders(BLOB) == [b.me], "the last picture stands"
            return bool(set(agents_at(seed)) - {pid})

        await until(replaced, within_s=15)
        await until(lambda: len(serf_members(seed, a)) == 2, within_s=15)
        assert alive(a) == alive(b) == {"a", "b"}
        a.advertise([key_hash("later")])
        await until(lambda: b.holders(key_hash("later")) == [a.me])


def serf_members(host: str, gossip: Gossip) -> list[str]:
    """What the node's own agent says of members that are alive, asked as an operator would, with the RPC's key."""
    agent = gossip._membership._agent
    if agent is None:
        return []
    command = ["serf", "members", "-rpc-addr", agent.rpc_addr, "-rpc-auth", agent.auth_key, "-status", "alive"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


NODE = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from peerd_gossip import Gossip, GossipConfig, Member, SerfConfig, SerfMembership, key_hash

    async def main(name, life, host, key, state, *join):
        me = Member(name, int(life), host + ":5001", host + ":0")
        serf = SerfMembership(SerfConfig(join=join, bind=host + ":7946", key=key, state=Path(state) if state else None))
        async with Gossip.running(GossipConfig(me, host + ":0"), serf) as gossip:
            gossip.advertise([key_hash("blob")])
            print("ready", flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
            await gossip.leave()

    asyncio.run(main(*sys.argv[1:]))
    """
)


@contextlib.asynccontextmanager
async def process(name: str, host: str, *join: str, state: str = "") -> AsyncIterator[asyncio.subprocess.Process]:
    """A node in a process of its own, that can be killed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", NODE, name, str(next(LIVES)), host, KEY, state, *join,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        async with asyncio.timeout(20):
            assert await child.stdout.readline() == b"ready\n"
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def test_a_node_that_is_killed_takes_its_agent_along_is_out_in_time_and_comes_back(
    hosts: Iterator[str], until: Until
) -> None:
    async with AsyncExitStack() as stack:
        seed, host, elsewhere = next(hosts), next(hosts), next(hosts)
        a = await stack.enter_async_context(node(seed, name="a"))
        for place in (host, elsewhere):
            async with process("b", place, seed) as child:
                # Under the same name, at another address the second time, and before its death has been noticed.
                await until(lambda place=place: peers(a) == [("b", f"{place}:5001")], within_s=5)
                child.kill()
                await until(lambda place=place: not agents_at(place), within_s=5)
        await until(lambda: not a.holders(BLOB), within_s=15, told="one that was killed is out")
        assert [state for member, state in a.members() if member.name == "b"] == [MemberState.FAILED]
        async with process("b", host, seed):
            await until(
                lambda: peers(a) == [("b", f"{host}:5001")], within_s=5, told="one that was started again is in"
            )


def peers(gossip: Gossip) -> list[tuple[str, str]]:
    """Who may hold the blob, and where."""
    return [(member.name, member.peer_addr) for member in gossip.holders(BLOB)]


async def test_a_former_life_is_forgotten_by_serf_when_the_next_has_joined(hosts: Iterator[str], until: Until) -> None:
    async with AsyncExitStack() as stack:
        seed, host = next(hosts), next(hosts)
        a = await stack.enter_async_context(node(seed, name="a"))
        async with process("b", host, seed) as child:
            await until(lambda: "b" in alive(a))
            child.kill()
        async with process("b", host, seed):
            await until(lambda: a.holders(BLOB), within_s=5)
            agent = a._membership._agent
            assert agent is not None
            async with SerfClient.connected(agent.rpc_addr, auth_key=agent.auth_key) as client:
                deadline = time.monotonic() + 20
                while True:
                    statuses = sorted(m.status for m in await client.members() if m.name.startswith("b."))
                    if statuses == ["alive", "left"]:
                        break
                    assert time.monotonic() < deadline, statuses
                    await asyncio.sleep(0.1)


async def test_a_node_that_is_started_again_without_join_finds_its_cluster_by_what_it_remembers(
    hosts: Iterator[str], until: Until, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        seed, host = next(hosts), next(hosts)
        a = await stack.enter_async_context(node(seed, name="a"))
        async with process("b", host, seed, state=str(tmp_path)) as child:
            await until(lambda: a.holders(BLOB))
            assert child.stdin is not None
            child.stdin.write(b"leave\n")
            await until(lambda: not a.holders(BLOB), within_s=2, told="one that leaves is out")
            await child.wait()
        assert child.returncode == 0
        async with process("b", host, state=str(tmp_path)):
            await until(lambda: a.holders(BLOB), within_s=10)


async def test_an_agent_that_runs_already_is_used_and_stays(hosts: Iterator[str], until: Until, tmp_path: Path) -> None:
    seed, host = next(hosts), next(hosts)
    rpc = f"{host}:17373"
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(node(seed, name="a"))
        key = tmp_path / "key"
        key.write_text(KEY + "\n")
        agent = await asyncio.create_subprocess_exec(
            "serf", "agent", "-node", "operators-name", "-bind", f"{host}:7946", "-rpc-addr", rpc, "-encrypt",
            read_key(key), "-tag", "role=other", "-retry-join", f"{seed}:7946",
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            await until(lambda: agents_at(host))
            async with node(host, name="b", rpc_addr=rpc) as b:
                b.advertise([BLOB])
                await until(lambda: a.holders(BLOB) == [b.me])
                await b.leave()
                await until(lambda: not a.holders(BLOB), within_s=2, told="one that leaves is out")
            async with SerfClient.connected(rpc) as client:
                [mine] = [m for m in await client.members() if m.name == "operators-name"]
            assert (mine.status, mine.tags) == ("alive", {"role": "other"})
            async with node(host, name="b", rpc_addr=rpc) as b:
                b.advertise([BLOB])
                await until(lambda: a.holders(BLOB) == [b.me])
        finally:
            agent.kill()
            await agent.wait()


async def test_a_bind_address_that_is_taken_is_an_error_of_the_start_and_nobody_is_adopted(
    hosts: Iterator[str],
) -> None:
    host = next(hosts)
    async with node(host, name="a"):
        with pytest.raises(SerfUnavailable, match="address already in use"):
            async with node(host, name="b"):
                pass


async def test_a_serf_that_is_not_there_is_an_error_that_says_what_to_install(hosts: Iterator[str]) -> None:
    with pytest.raises(SerfUnavailable, match="install"):
        async with node(next(hosts), name="a", executable="no-such-serf"):
            pass


async def test_an_agent_that_does_not_run_is_an_error_of_the_start(hosts: Iterator[str]) -> None:
    with pytest.raises(SerfUnavailable, match="no Serf agent answers"):
        async with node(next(hosts), name="a", rpc_addr=f"{next(hosts)}:17373"):
            pass


async def test_an_agent_with_another_key_is_not_of_this_cluster(hosts: Iterator[str], until: Until) -> None:
    seed, host = next(hosts), next(hosts)
    async with node(seed, name="a") as a:
        other = SerfConfig(join=[seed], bind=f"{host}:7946", key=base64.b64encode(bytes(32)).decode())
        me = Member("b", next(LIVES), f"{host}:5001", f"{host}:0")
        async with Gossip.running(GossipConfig(me, f"{host}:0"), SerfMembership(other)) as b:
            await until(lambda: agents_at(host))
            async with node(next(hosts), seed, name="c") as c:
                await until(lambda: alive(a) == alive(c) == {"a", "c"})
            assert alive(b) == {"b"}


@pytest.mark.parametrize("content", ["", "not base64!", base64.b64encode(bytes(20)).decode()])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content)
    with pytest.raises(MembershipError, match="key"):
        read_key(tmp_path / "key")
