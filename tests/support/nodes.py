"""Nodes as users run them: `peerd serve`, each a process with addresses of its own."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.ports import free_port
from tests.support.program import Program
from tests.support.wire import Reply, Wire

INSECURE = ("--insecure-peers",)
SETTLED_SECONDS = 1.0
"""Several times as long as a member waits before it tells others what it holds by now."""


@dataclass(frozen=True)
class Node:
    """One node, which runs or has been ended."""

    name: str
    host: str
    http_port: int
    peer_port: int
    gossip_port: int
    serf_port: int
    program: Program

    @property
    def netloc(self) -> str:
        return f"{self.host}:{self.http_port}"

    def connect(self) -> Wire:
        """A connection to the door for clients."""
        return Wire(self.host, self.http_port)

    def ask(self, target: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> Reply:
        """One request on a connection of its own."""
        with self.connect() as wire:
            return wire.ask(target, method=method, headers=headers)

    def members(self) -> dict[str, dict[str, Any]]:
        """What this node knows of each member, by name."""
        return {member["name"]: member for member in json.loads(self.ask("/api/v1/members").body)["members"]}

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        text = self.ask("/metrics/prometheus").body.decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def sees_alive(self, count: int) -> bool:
        """Whether it knows so many members that are alive, itself included."""
        return sum(member["state"] == "alive" for member in self.members().values()) == count


@contextmanager
def running_nodes(
    folder: Path, count: int, *options: str, trust: Sequence[Sequence[str]] | None = None, membership: str = "static"
) -> Iterator[list[Node]]:
    """Nodes within this block, on 127.0.0.1 and so on, of which each sees all others alive.

    `trust` are the options of mutual TLS, node by node; without them peers are insecure. `membership` is `static` or `serf`.
    """
    with ExitStack() as stack:
        nodes: list[Node] = []
        for number in range(1, count + 1):
            joins = joining(nodes[0], membership) if nodes else ["--membership", membership]
            own = trust[number - 1] if trust else INSECURE
            node = start_node(folder, f"node-{number}", f"127.0.0.{number}", [*own, *joins, *options])
            stack.callback(end_node, node)
            nodes.append(node)
        for node in nodes:
            node.program.wait_until_ready()
        for node in nodes:
            node.program.wait_until(partial(node.sees_alive, count), f"seeing {count} members alive")
        yield nodes


@contextmanager
def running_alone(folder: Path, *options: str) -> Iterator[Node]:
    """One node without peers within this block."""
    node = start_node(folder, "node-1", "127.0.0.1", ["--membership", "static", *options])
    try:
        node.program.wait_until_ready()
        yield node
    finally:
        end_node(node)


def wait_until_agreed(nodes: Sequence[Node]) -> None:
    """Until each node knows as many keys of every other as that one has itself, and goes on to for a while.

    For a while, because a key that replaces another changes no count: what was proved takes the place of what was claimed.
    """
    last: list[dict[str, int]] = []
    since = time.monotonic()

    def settled() -> bool:
        nonlocal last, since
        views = [{name: member["keys"] for name, member in node.members().items()} for node in nodes]
        if views != last:
            last, since = views, time.monotonic()
        return all(view == views[0] for view in views) and time.monotonic() - since > SETTLED_SECONDS

    nodes[0].program.wait_until(settled, "told what all hold")


def joining(seed: Node, membership: str) -> list[str]:
    """The options of one that joins at `seed`."""
    port = seed.serf_port if membership == "serf" else seed.gossip_port
    return ["--membership", membership, "--join", f"{seed.host}:{port}"]


def start_node(folder: Path, name: str, host: str, options: Sequence[str], *, around: Sequence[str] = ()) -> Node:
    """Start one at an address; it is ready when its program is. `around` are the words before its command, as `env A=b`."""
    http, peer, gossip, serf = (free_port(host) for _ in range(4))
    command = [
        *around,
        # The console script beside this interpreter, whatever PATH says.
        str(Path(sys.executable).with_name("peerd")),
        "serve",
        *("--node-name", name),
        *("--http-addr", f"{host}:{http}"),
        *("--peer-addr", f"{host}:{peer}"),
        *("--gossip-addr", f"{host}:{gossip}"),
        *("--serf-bind", f"{host}:{serf}"),
        *("--cache-dir", str(folder / name)),
        *("--drain-timeout", "2s"),
        *("--log-format", "text"),
        *("--upstream-allow", "127.0.0.1:*"),
        *options,
    ]
    program = Program(name, command, folder / f"{name}.log", ready=lambda: is_ready(host, http))
    return Node(name, host, http, peer, gossip, serf, program)


def is_ready(host: str, port: int) -> bool:
    """Whether the node behind this door says so."""
    try:
        with Wire(host, port) as wire:
            return wire.ask("/readyz").status == 200
    except (OSError, EOFError):
        return False


def end_node(node: Node) -> None:
    """End it, which a test may have done; whatever was asked of it, it made no mistake of its own."""
    ran = node.program.runs
    code = node.program.end()
    if ran:
        assert code == 0, node.program.tail()
    log = node.program.log.read_text(errors="replace")
    before, found, after = log.partition("Traceback (most recent call last)")
    if found:
        pytest.fail(f"{node.name} logged a traceback:\n{before[-1000:]}{found}{after[:6000]}")
