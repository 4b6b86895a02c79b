"""Nodes as processes of this machine, on 127.0.0.1, 127.0.0.2 and so on.

Owns: starting, watching and ending them. A node that ends by itself, or does not become ready, is told with the last lines of
its log.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Self

from prometheus_client.parser import text_string_to_metric_families

from app.client import api
from app.client.node import Node
from app.errors import PeerdError

_READY_WITHIN_SECONDS: Final = 60.0
_AGREED_WITHIN_SECONDS: Final = 15.0
_ENDED_WITHIN_SECONDS: Final = 15.0
_ASK_EVERY_SECONDS: Final = 0.05
_LOG_LINES_SHOWN: Final = 15


class NodeFailed(PeerdError):
    """A node of the demo did not do what it should."""


@dataclass(frozen=True, slots=True)
class RunningNode:
    """One node: its process, its doors and its log."""

    name: str
    process: subprocess.Popen[bytes]
    http_address: str
    gossip_address: str
    log: Path

    @property
    def client(self) -> Node:
        """Its door for clients."""
        return Node(f"http://{self.http_address}")

    def counters(self) -> dict[tuple[str, str], float]:
        """Its counters of bytes by metric and source, from /metrics/prometheus."""
        with self.client.request("GET", "/metrics/prometheus") as answer:
            text = answer.read().decode()
        return {
            (sample.name, sample.labels["source"]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name in {"peerd_served_bytes_total", "peerd_received_bytes_total"}
        }

    def check(self) -> None:
        """Raises NodeFailed when the process has ended."""
        if (code := self.process.poll()) is not None:
            raise self.failed(f"ended by itself with exit code {code}")

    def failed(self, what: str) -> NodeFailed:
        """With the end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        return NodeFailed("\n".join([f"{self.name} {what}; the end of its log:", *(f"  {line}" for line in lines)]))


class Cluster:
    """Nodes that know each other; leaving the block ends them, by their pids."""

    def __init__(self, directory: Path, registry_name: str, registry_port: int) -> None:
        self.nodes: list[RunningNode] = []
        self._directory = directory
        self._registry_name = registry_name
        self._registry_address = f"127.0.0.1:{registry_port}"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def grow(self) -> RunningNode:
        """One node more: ready, and known to all others."""
        number = len(self.nodes) + 1
        name, host = f"node-{number}", f"127.0.0.{number}"
        http, peer, gossip = (f"{host}:{port}" for port in _free_ports(host, 3))
        options = {
            "--node-name": name,
            "--http-addr": http,
            "--peer-addr": peer,
            "--gossip-addr": gossip,
            "--advertise-host": host,
            "--membership": "static",
            "--cache-dir": str(self._directory / name),
            "--cache-size": "2GiB",
            "--registry": f"{self._registry_name}=http://{self._registry_address}",
            "--upstream-allow": self._registry_address,
            "--drain-timeout": "2s",
            "--log-format": "text",
        }
        arguments = ["--insecure-peers", *(word for option in options.items() for word in option)]
        # One member that answers is enough to join by; two, lest the first be busy.
        arguments += [word for other in self.nodes[:2] for word in ("--join", other.gossip_address)]
        node = _start(name, arguments, http, gossip, self._directory / f"{name}.log")
        self._stack.callback(_end, node)
        self.nodes.append(node)
        self._until(partial(_is_ready, node), _READY_WITHIN_SECONDS, f"{name} is not ready")
        self._until(self._all_met, _READY_WITHIN_SECONDS, f"{name} and the others do not find each other")
        return node

    def agree(self) -> None:
        """Waits until every node knows of each other as many keys as that one has; raises NodeFailed when it takes too long."""
        self._until(self._all_agree, _AGREED_WITHIN_SECONDS, "the nodes do not learn what the others have")

    def _until(self, true: Callable[[], bool], seconds: float, otherwise: str) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            for node in self.nodes:
                node.check()
            if time.monotonic() > deadline:
                raise self.nodes[-1].failed(f"was waited for {seconds:.0f} s: {otherwise}")
            time.sleep(_ASK_EVERY_SECONDS)

    def _all_met(self) -> bool:
        with suppress(PeerdError):
            return all(api.status(node.client).members.alive == len(self.nodes) for node in self.nodes)
        return False

    def _all_agree(self) -> bool:
        with suppress(PeerdError):
            views = [api.members(node.client).members for node in self.nodes]
            own = {member.name: member.keys for view in views for member in view if member.me}
            return all(own.get(member.name) == member.keys for view in views for member in view)
        return False


def _start(name: str, arguments: list[str], http_address: str, gossip_address: str, log: Path) -> RunningNode:
    # Neither options nor proxies of the demo's own environment are meant for its nodes.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PEERD_") and not name.lower().endswith("_proxy")
    }
    command = [sys.executable, "-m", "app.demo.child", str(os.getpid()), "serve", *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - this program itself
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
    return RunningNode(name, process, http_address, gossip_address, log)


def _end(node: RunningNode) -> None:
    node.process.send_signal(signal.SIGTERM)
    try:
        node.process.wait(_ENDED_WITHIN_SECONDS)
    except subprocess.TimeoutExpired:
        node.process.kill()
        node.process.wait()


def _is_ready(node: RunningNode) -> bool:
    with suppress(PeerdError), node.client.request("GET", "/readyz"):
        return True
    return False


def _free_ports(host: str, count: int) -> list[int]:
    """Ports that nobody listens at now; all are held until all are chosen, so that they differ."""
    with ExitStack() as stack:
        ports = []
        for _ in range(count):
            chosen = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            chosen.bind((host, 0))
            ports.append(int(chosen.getsockname()[1]))
        return ports
