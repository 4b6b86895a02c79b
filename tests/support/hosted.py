"""Nodes with mutual TLS, each on a host of its own, and no containerd beside them: their clients speak HTTP."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.containerd.fleet import HostedNode, certificates
from tests.containerd.network import Host
from tests.support.nodes import end_node, is_ready
from tests.support.program import Program

DOOR = ("127.0.0.1", 5000)
PEER_PORT = 5001
GOSSIP_PORT = 5002
SERF_PORT = 7946


@contextmanager
def running_hosted_nodes(
    folder: Path,
    hosts: Mapping[str, Host],
    *options: str,
    own: Mapping[str, Sequence[str]] | None = None,
    membership: str = "static",
) -> Iterator[dict[str, HostedNode]]:
    """A node on each host within this block, by the hosts' names; each sees all others alive.

    `options` are those of all, `own` those of single ones. Certificates are in `folder/certs`. `membership` is `static` or `serf`.
    """
    trust = certificates(folder / "certs", hosts)
    port = SERF_PORT if membership == "serf" else GOSSIP_PORT
    # More than one place to join at: a node that comes back finds one of them up.
    joins = [part for host in list(hosts.values())[:3] for part in ("--join", f"{host.address}:{port}")]
    with ExitStack() as stack:
        nodes: dict[str, HostedNode] = {}
        for name, host in hosts.items():
            more = ["--membership", membership, *trust[name], *joins, *options, *(own or {}).get(name, ())]
            nodes[name] = _started(folder, name, host, more)
            stack.callback(end_node, nodes[name])
        for node in nodes.values():
            node.program.wait_until_ready()
        for node in nodes.values():
            node.program.wait_until(partial(node.sees_alive, len(nodes)), f"seeing {len(nodes)} members alive")
        yield nodes


def _started(folder: Path, name: str, host: Host, options: Sequence[str]) -> HostedNode:
    command = host.command(
        # The console script beside this interpreter, whatever PATH says.
        str(Path(sys.executable).with_name("peerd")),
        "serve",
        *("--node-name", name),
        *("--advertise-host", host.address),
        *("--cache-dir", str(folder / name)),
        *("--containerd-socket", str(folder / "absent.sock")),
        *("--drain-timeout", "12s"),
        *("--log-format", "text"),
        *options,
    )
    program = Program(
        f"peerd {name}", command, folder / f"{name}.log", ready=lambda: host.inside(lambda: is_ready(*DOOR))
    )
    return HostedNode(name, *DOOR, PEER_PORT, GOSSIP_PORT, SERF_PORT, program, host)
