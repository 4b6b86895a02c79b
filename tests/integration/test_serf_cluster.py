"""Nodes that find each other by Serf: one that leaves, one that is killed, and an agent that dies under its node."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from tests.conftest import Cluster
from tests.support import made
from tests.support.nodes import INSECURE, Node, end_node, joining, start_node, wait_until_agreed
from tests.support.registry import Registry
from tests.support.tables import Figures

pytestmark = [pytest.mark.xdist_group("serf cluster")]

SIZE = 8 << 20
RANGE_BYTES = 64 << 10
PATIENCE = 10
"""What a line promises in seconds is waited for so many times as long, and printed."""


@pytest.fixture(scope="module")
def nodes(cluster: Cluster, registry: Registry) -> list[Node]:
    return cluster(3, "--registry", f"reg.test={registry.url}", membership="serf")


def agent_of(node: Node) -> int:
    """The process that is bound where this node's Serf gossips; none is 0."""
    command = ["ss", "-Hltnp", f"src {node.host}:{node.serf_port}"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(out.partition("pid=")[2].partition(",")[0] or 0)


def state(seen_by: Node, name: str) -> str:
    member = seen_by.members().get(name)
    return member["state"] if member else "unknown"


def seconds_until(holds: Callable[[], bool], goal: float) -> float:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() < began + PATIENCE * goal, f"not within {PATIENCE * goal} s"
        time.sleep(0.02)
    return time.monotonic() - began


class Clients:
    """Clients of some nodes that ask for one range after the other, until they are called back."""

    def __init__(self, nodes: list[Node], target: str, data: bytes) -> None:
        self._target, self._data = target, data
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(node,)) for node in nodes]
        self.answered, self.wrong = 0, list[str]()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, node: Node) -> None:
        at = 0
        while not self._over.is_set():
            want = self._data[at : at + RANGE_BYTES]
            reply = node.ask(self._target, headers={"Range": f"bytes={at}-{at + len(want) - 1}"})
            if (reply.status, reply.body) != (206, want):
                self.wrong.append(f"{node.name}, byte {at}: {reply.status} {reply.body[:200]!r}")
            self.answered += 1
            at = (at + RANGE_BYTES) % len(self._data)
            time.sleep(0.005)


def pushed(registry: Registry, nodes: list[Node], what: str) -> tuple[str, bytes]:
    """The target of a blob that the first of the nodes holds, and its bytes."""
    data = made.content(what, SIZE)
    target = f"/v2/team/app/blobs/{registry.push_blob('team/app', data)}?ns=reg.test"
    assert nodes[0].ask(target).body == data
    wait_until_agreed(nodes)
    return target, data


def test_one_join_is_enough_to_find_everybody(nodes: list[Node], registry: Registry) -> None:
    target, data = pushed(registry, nodes, "found by Serf")
    with registry.program.away():
        for node in nodes[1:]:
            assert node.ask(target).body == data


def test_an_agent_that_is_killed_is_replaced_and_no_request_fails_meanwhile(
    nodes: list[Node], registry: Registry, figures: Figures
) -> None:
    target, data = pushed(registry, nodes, "while an agent is away")
    victim = nodes[1]
    agent = agent_of(victim)
    assert agent, "Serf runs"
    with registry.program.away(), Clients(nodes, target, data) as clients:
        os.kill(agent, signal.SIGKILL)
        seconds = seconds_until(lambda: agent_of(victim) not in (0, agent), 15)
        asked = clients.answered
        seconds_until(lambda: clients.answered > asked + 100, 15)
        assert all(node.sees_alive(3) for node in nodes)
    assert clients.wrong == []
    figures("Serf", {"what": "an agent that was killed is replaced", "seconds": f"{seconds:.2f}"})
    # And the new agent is one of the cluster.
    later, more = pushed(registry, [victim, nodes[2]], "told after the agent came back")
    with registry.program.away():
        assert nodes[2].ask(later).body == more


def test_one_that_is_killed_is_out_and_back_under_its_name_elsewhere(
    new_folder: Callable[[], Path], nodes: list[Node], registry: Registry, figures: Figures
) -> None:
    options = [*INSECURE, *joining(nodes[0], "serf"), "--registry", f"reg.test={registry.url}"]
    watchers = nodes[:2]
    for host, until in (("127.0.0.11", "killed"), ("127.0.0.12", "stopped"), ("127.0.0.11", "the end")):
        guest = start_node(new_folder(), "guest", host, options)
        try:
            guest.program.wait_until_ready()

            def is_in(guest: Node = guest) -> bool:
                found = [node.members().get("guest") or {} for node in watchers]
                return all(
                    member.get("state") == "alive" and f"{guest.host}:{guest.peer_port}" in json.dumps(member)
                    for member in found
                )

            seconds = seconds_until(is_in, 5)
            figures("Serf", {"what": f"guest at {host} is in after it was ready", "seconds": f"{seconds:.2f}"})
            if until == "killed":
                guest.program.end(signal.SIGKILL)
                goal = 15.0
            elif until == "stopped":
                guest.program.send(signal.SIGTERM)
                goal = 2.0
            else:
                continue
            seconds = seconds_until(
                lambda: all(state(node, "guest") in ("failed", "left", "unknown") for node in watchers), goal
            )
            figures(
                "Serf", {"what": f"one that was {until} is out (at most {goal:.0f} s)", "seconds": f"{seconds:.2f}"}
            )
        finally:
            end_node(guest)
