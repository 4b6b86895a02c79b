"""A Serf agent as a child: its configuration, its start, and its end with ours.

An agent outlives a parent that is killed with -9, and keeps its port: so the kernel is told, by setpriv, to kill it when we
die. An agent that was left behind all the same is never taken for ours: each start has an RPC port and an RPC key of
its own, and a bind address that is taken is an error.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import os
import secrets
import shutil
import socket
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from peerd_gossip._tasks import owned_tasks
from peerd_gossip.errors import MembershipError, SerfUnavailable
from peerd_gossip.member import join_address, split_address

log = logging.getLogger(__name__)

TAG_BYTES_MAX = 512  # Serf's, encoded
SNAPSHOT = "serf.snapshot"

_ORDERLY = "Serf shutdown detected, quitting"
"""What Serf warns of when it was told to leave."""

END_S = 3.0  # after a leave, before the agent is killed
LOG_LINES_KEPT = 20
LOG_LINE_BYTES_MAX = 64 << 10


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What our agent is started with."""

    node: str
    """Its name in Serf."""
    bind: str
    """`host:port` for TCP and UDP."""
    tags: Mapping[str, str]
    advertise: str | None = None
    """`host:port` that others are told, when it is not `bind`."""
    key: str | None = None
    """Base64 of 16, 24 or 32 bytes; without it gossip goes in the clear."""
    state: Path | None = None
    """Folder in which the agent remembers members, to find them again after a restart of ours. None: not kept."""
    executable: str = "serf"
    profile: str = "lan"


def read_key(path: Path) -> str:
    """The encryption key in a file; MembershipError when it is none."""
    try:
        key = path.read_text("ascii").strip()
        size = len(base64.b64decode(key, validate=True))
    except (OSError, UnicodeDecodeError, binascii.Error) as error:
        raise MembershipError(f"no Serf key can be read from {path}: {error}") from error
    if size not in (16, 24, 32):
        raise MembershipError(
            f"the Serf key in {path} has {size} bytes; 16, 24 or 32 are meant (`serf keygen` makes one)"
        )
    return key


def check_tags(tags: Mapping[str, str]) -> None:
    """MembershipError when Serf would not take so many bytes."""
    size = 4 + sum(6 + len(key.encode()) + len(value.encode()) for key, value in tags.items())
    if size > TAG_BYTES_MAX:
        raise MembershipError(
            f"this member's addresses, zone and version take {size} bytes as tags; Serf takes {TAG_BYTES_MAX}"
        )


def forget_names(snapshot: Path, prefix: str) -> None:
    """Take members out of a snapshot whose name begins so: they are our own former lives.

    An agent that finds its own address under another name in the snapshot joins itself, takes that for success and
    looks no further.
    """
    with suppress(FileNotFoundError):
        lines = snapshot.read_text("utf-8", "replace").splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith((f"alive: {prefix}", f"not-alive: {prefix}"))]
        if kept != lines:
            replacement = snapshot.with_suffix(".new")
            replacement.write_text("".join(kept))
            replacement.replace(snapshot)


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent that runs: where its RPC is, and with which key."""

    rpc_addr: str
    auth_key: str
    process: asyncio.subprocess.Process
    last_lines: deque[str]

    def why_it_ended(self) -> str:
        """Its last words, for a message."""
        return f"exit status {self.process.returncode}: {' | '.join(self.last_lines) or 'without a word'}"


@asynccontextmanager
async def agent_running(config: AgentConfig) -> AsyncIterator[Agent]:
    """Our agent, for as long as the context lasts; it is killed then, if it has not ended by a leave.

    Raises SerfUnavailable when it can not be started. Whether it answers yet, or has ended, is for the caller to see.
    """
    serf, setpriv = shutil.which(config.executable), shutil.which("setpriv")
    if serf is None or setpriv is None:
        missing = config.executable if serf is None else "setpriv"
        raise SerfUnavailable(f"{missing} is not found: install Debian's packages serf and util-linux")
    rpc_addr, auth_key = f"127.0.0.1:{_free_port()}", secrets.token_urlsafe(24)
    with _in_memory(json.dumps(_configuration(config, rpc_addr, auth_key)).encode()) as file:
        process = await asyncio.create_subprocess_exec(
            setpriv, "--pdeathsig", "KILL", serf, "agent", "-config-file", f"/proc/self/fd/{file}",
            pass_fds=[file],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=LOG_LINE_BYTES_MAX,
            start_new_session=True,  # a Ctrl-C is for us; the agent is told by us
        )  # fmt: skip
    agent = Agent(rpc_addr, auth_key, process, deque(maxlen=LOG_LINES_KEPT))
    try:
        async with owned_tasks() as tasks:
            tasks.start(_read_log(agent), name="serf agent's log")
            yield agent
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
        await process.wait()


async def ended(agent: Agent) -> None:
    """Wait for an agent that has left to end by itself, for a while."""
    with suppress(TimeoutError):
        async with asyncio.timeout(END_S):
            await agent.process.wait()


@contextmanager
def _in_memory(content: bytes) -> Iterator[int]:
    """A file that is nowhere on disk, as it holds keys: nothing is left of it when we are killed."""
    file = os.memfd_create("serf-agent")
    try:
        os.write(file, content)
        yield file
    finally:
        os.close(file)


def _configuration(config: AgentConfig, rpc_addr: str, auth_key: str) -> dict[str, object]:
    configuration: dict[str, object] = {
        "node_name": config.node,
        "bind": join_address(*split_address(config.bind)),
        "rpc_addr": rpc_addr,
        "rpc_auth": auth_key,
        "tags": dict(config.tags),
        "profile": config.profile,
        "leave_on_terminate": True,  # who stops a whole control group stops the agent too, and means a leave
        "log_level": "info",
    }
    if config.state is not None:
        config.state.mkdir(parents=True, exist_ok=True)
        snapshot = config.state / SNAPSHOT
        forget_names(snapshot, config.node.rpartition(".")[0] + ".")
        configuration |= {"snapshot_path": str(snapshot), "rejoin_after_leave": True}
    if config.advertise is not None:
        configuration["advertise"] = config.advertise
    if config.key is not None:
        configuration["encrypt_key"] = config.key
    return configuration


def _free_port() -> int:
    """A port that is free now. If somebody takes it before the agent does, the agent ends, and is started again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _read_log(agent: Agent) -> None:
    stream = agent.process.stdout
    if stream is None:
        return
    while True:
        try:
            line = await stream.readline()
        except ValueError:  # a line longer than the limit: the rest of it is read as another
            continue
        if not line:
            return
        text = line.decode("utf-8", "replace").strip()
        if not text:
            continue
        agent.last_lines.append(text)
        if ("[ERR]" in text or "[WARN]" in text) and not text.endswith(_ORDERLY):
            log.warning("serf agent: %s", text)
        else:
            log.debug("serf agent: %s", text)
