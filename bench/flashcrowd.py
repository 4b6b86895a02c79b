"""A flash crowd of real processes: eight nodes want the same image at the same moment, over lines that are slower than the machine.

Each node is on a host of its own (network namespaces), 100 Mbit/s both ways, peers over mutual TLS; upstream is a real
docker-registry, and nginx for `/blobs`, on a host with 200 Mbit/s. Clients read as containerd does: whole blobs, three at a time,
each checked against its digest. Straight from upstream the same is done too: by one node alone, which has its whole line for it, and
by all eight, which share upstream's. Members are found by Serf, and have pulled a small image before, as those of a running cluster have.
Through the nodes there is a round for each of several images, and the round in the middle counts.
`python -m bench.flashcrowd`; exit 1 when the slowest node took more than 1.35 times what its line needed for one that was alone,
or upstream sent more than 1.05 copies. `--picture FILE` draws how fast bytes came to each node.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from bench.picture import BLUE, RED, Axis, Line, Panel, draw
from bench.servers import cpu_seconds
from tests.containerd.fleet import REGISTRY_PORT, RegistryHost, running_registry_host
from tests.containerd.network import Host, network
from tests.containerd.oci import OciImage, image_of, random_layer
from tests.support.blob_store import BlobStore, running_blob_store
from tests.support.client import BLOBS_AT_ONCE, Client, Place, at_url, in_registry
from tests.support.hosted import DOOR, running_hosted_nodes

MIB = 1 << 20
LAYERS = 4
FORMER_MIB = 8
MULTIPLE_MAX = 1.35
COPIES_MAX = 1.05
REGISTRY_NAME = "registry.test"
SAMPLE_SECONDS = 0.5
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "flash-crowd.svg"


@dataclass(frozen=True)
class Traffic:
    """Bytes that came to each host and left it until now, frames included, by its port of the bridge."""

    to_host: Mapping[str, int]
    from_host: Mapping[str, int]


@dataclass
class Crowd:
    """What became of one.

    Attributes:
        seconds: how long each node took.
        copies: how often upstream sent the bytes of bodies.
        copies_on_the_wire: the same with frames and what was sent twice.
        past_nodes: what of that clients asked upstream for themselves, since a node did not answer; straight, all.
        busy: part of the time for which this machine's processors had something to do.
        cpu_seconds: what of it the nodes used.
        samples: traffic now and then, by seconds since the begin.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    copies: float = 0.0
    copies_on_the_wire: float = 0.0
    past_nodes: float = 0.0
    busy: float = 0.0
    cpu_seconds: float = 0.0
    samples: list[tuple[float, Traffic]] = field(default_factory=list)

    @property
    def slowest(self) -> float:
        """Seconds of the last node."""
        return max(self.seconds.values())


@dataclass(frozen=True)
class World:
    """Hosts, and what there is to be had."""

    hosts: Mapping[str, Host]
    upstream: Host
    registry: RegistryHost
    store: BlobStore


@dataclass(frozen=True)
class Published:
    """An image in the registry, tagged 1, and its blobs in the blob store."""

    repository: str
    image: OciImage

    @property
    def size(self) -> int:
        """Bytes of the image's blobs."""
        return sum(map(len, self.image.blobs.values()))


def main() -> int:
    """Measure, print the tables, and tell whether the goals were met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--size", type=int, default=128, help="of the image in MiB")
    parser.add_argument("--link", type=int, default=100, help="Mbit/s of a node, both ways")
    parser.add_argument("--upstream", type=int, default=200, help="Mbit/s of upstream")
    parser.add_argument("--rounds", type=int, default=3, help="through the nodes")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="peerd-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        world = stack.enter_context(running_world(folder, arguments))
        images = [published(world, f"crowd-{number}", arguments.size) for number in range(arguments.rounds)]
        small = published(world, "former", FORMER_MIB)
        wants = {door: [want(world, image) for image in images] for door, want in DOORS.items()}
        size = images[0].size
        print(
            f"{arguments.nodes} nodes of {arguments.link} Mbit/s, upstream {arguments.upstream} Mbit/s; {size >> 20} MiB in "
            f"{LAYERS} layers: {size * 8 / (arguments.link * 1e6):.1f} s of a node's line, had it no frames"
        )
        first = dict(list(world.hosts.items())[:1])
        alone = {door: crowd(world, some[0], [], first) for door, some in wants.items()}
        straight = {door: crowd(world, some[0], [], world.hosts) for door, some in wants.items()}
        options = ["--registry", f"{REGISTRY_NAME}=http://{world.upstream.address}:{REGISTRY_PORT}"]
        options += ["--upstream-allow", f"{world.upstream.address}:*", "--log-level", "warning"]
        nodes = stack.enter_context(running_hosted_nodes(folder, world.hosts, *options, membership="serf"))
        pids = [node.program.pid for node in nodes.values()]
        for want in DOORS.values():
            crowd(world, want(world, small), pids, world.hosts)
        through: dict[str, list[Crowd]] = {door: [] for door in wants}
        for number in range(arguments.rounds):
            for door, some in wants.items():
                through[door].append(crowd(world, some[number], pids, world.hosts))
    middle = {door: sorted(some, key=lambda one: one.slowest)[len(some) // 2] for door, some in through.items()}
    missed = []
    for door, some in through.items():
        if not report(door, alone[door], straight[door], middle[door]):
            missed.append(door)
        rounds = ", ".join(f"{one.slowest / alone[door].slowest:.2f} with {one.copies:.2f} copies" for one in some)
        print(f"round by round: {rounds}")
    arguments.picture.write_text(picture(world, straight["/v2"], middle["/v2"]))
    return 1 if missed else 0


@contextmanager
def running_world(folder: Path, arguments: argparse.Namespace) -> Iterator[World]:
    """Network, registry and blob store within this block."""
    with ExitStack() as stack:
        net = stack.enter_context(network())
        upstream = net.host(100)
        hosts = {f"node-{number}": net.host(number) for number in range(1, arguments.nodes + 1)}
        upstream.limit(arguments.upstream, both_ways=True)
        for host in hosts.values():
            host.limit(arguments.link, both_ways=True)
        registry = stack.enter_context(running_registry_host(folder / "registry", upstream))
        (folder / "store").mkdir()
        yield World(hosts, upstream, registry, stack.enter_context(running_blob_store(folder / "store", upstream)))


def published(world: World, name: str, mib: int) -> Published:
    """An image of random bytes, in the registry and, by its blobs, in the blob store."""
    image = image_of([random_layer(f"{name}/{number}", mib * MIB // LAYERS) for number in range(LAYERS)], label=name)
    world.registry.publish(image, f"bench/{name}", "1")
    for digest, data in image.blobs.items():
        (world.store.files / digest.hex).write_bytes(data)
    return Published(f"bench/{name}", image)


Job = Callable[[Client], None]


@dataclass(frozen=True)
class Want:
    """What each client does, of how many bytes, and how many bytes of bodies upstream has sent of it so far."""

    do: Job
    size: int
    sent: Callable[[], int]


def pull(world: World, what: Published) -> Want:
    """The image, from the registry or as its mirror has it."""
    place_of = in_registry((world.upstream.address, REGISTRY_PORT), REGISTRY_NAME, what.repository)

    def do(client: Client) -> None:
        client.pull(place_of, "1", str(what.image.target), set())

    return Want(do, what.size, lambda: world.registry.sent(what.image))


def read_files(world: World, what: Published) -> Want:
    """The same bytes as files behind URLs, which name no digest."""
    origin = (world.store.address, world.store.port)

    def read(client: Client, hexadecimal: str) -> None:
        summed = hashlib.sha256()
        place: Place = at_url(origin, f"/{hexadecimal}")
        for piece in client.read(place):
            summed.update(piece)
        if summed.hexdigest() != hexadecimal:
            raise SystemExit(f"wrong bytes: {place.at_node}")

    def do(client: Client) -> None:
        with ThreadPoolExecutor(BLOBS_AT_ONCE) as threads:
            for done in [threads.submit(read, client, digest.hex) for digest in what.image.blobs]:
                done.result()

    return Want(do, what.size, lambda: sum(world.store.sent_of(f"/{digest.hex}") for digest in what.image.blobs))


DOORS = {"/v2": pull, "/blobs": read_files}


def crowd(world: World, want: Want, nodes: Sequence[int], hosts: Mapping[str, Host]) -> Crowd:
    """These hosts at once; through the nodes that have these pids, or without nodes straight from upstream."""
    result = Crowd()
    clients = {name: Client(host, DOOR if nodes else None) for name, host in hosts.items()}
    at_once = threading.Barrier(len(clients) + 1)
    began = 0.0

    def run(name: str) -> None:
        at_once.wait()
        want.do(clients[name])
        result.seconds[name] = time.monotonic() - began

    sent, idle, cpu, traffic = want.sent(), idle_seconds(), cpu_seconds(*nodes), traffic_of(world)
    with ThreadPoolExecutor(len(clients)) as threads:
        done = [threads.submit(run, name) for name in clients]
        began = time.monotonic()
        result.samples.append((0.0, traffic))
        at_once.wait()
        while not all(one.done() for one in done):
            time.sleep(SAMPLE_SECONDS)
            result.samples.append((time.monotonic() - began, traffic_of(world)))
    for one in done:
        one.result()
    result.past_nodes = sum(client.tally.from_origin for client in clients.values()) / want.size
    took = time.monotonic() - began
    result.busy = 1 - (idle_seconds() - idle) / took / (os.cpu_count() or 1)
    result.cpu_seconds = cpu_seconds(*nodes) - cpu
    result.copies = (want.sent() - sent) / want.size
    left = [sample.from_host[world.upstream.port] for _, sample in result.samples]
    result.copies_on_the_wire = (left[-1] - left[0]) / want.size
    return result


def traffic_of(world: World) -> Traffic:
    """By the counters of the bridge's ports."""
    command = ["ip", "-n", world.upstream.bridge, "-j", "-s", "link", "show"]
    links = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=10).stdout)
    counters = {link["ifname"]: link["stats64"] for link in links}
    return Traffic(
        {name: one["tx"]["bytes"] for name, one in counters.items()},
        {name: one["rx"]["bytes"] for name, one in counters.items()},
    )


def idle_seconds() -> float:
    """Of all processors together, since the machine started; uptime(1)'s second figure."""
    return float(Path("/proc/uptime").read_text().split()[1])


def report(door: str, alone: Crowd, straight: Crowd, through: Crowd) -> bool:
    """Print what came of it; tells whether the goals were met."""
    line_seconds = alone.slowest
    print(f"\n{door:>22}  {'seconds':>18}  {f'of {line_seconds:.1f} s alone':>18}")
    print(f"{'':>22}  {'straight':>8}  {'peerd':>8}  {'straight':>8}  {'peerd':>8}")
    rows = {name: (straight.seconds[name], through.seconds[name]) for name in sorted(straight.seconds)}
    rows["median"] = statistics.median(straight.seconds.values()), statistics.median(through.seconds.values())
    for name, seconds in {**rows, "slowest": (straight.slowest, through.slowest)}.items():
        multiples = [one / line_seconds for one in seconds]
        print(f"{name:>22}  {seconds[0]:8.1f}  {seconds[1]:8.1f}  {multiples[0]:8.2f}  {multiples[1]:8.2f}")
    for name, figures in {
        "copies upstream sent": (straight.copies, through.copies),
        "the same with frames": (straight.copies_on_the_wire, through.copies_on_the_wire),
        "asked past the nodes": (straight.past_nodes, through.past_nodes),
        "processors busy": (straight.busy, through.busy),
        "CPU seconds of nodes": (straight.cpu_seconds, through.cpu_seconds),
    }.items():
        print(f"{name:>22}  {figures[0]:8.2f}  {figures[1]:8.2f}")
    multiple = through.slowest / line_seconds
    met = multiple <= MULTIPLE_MAX and through.copies <= COPIES_MAX
    print(
        f"{'met' if met else 'MISSED'}: {multiple:.2f} times its line alone (at most {MULTIPLE_MAX}), "
        f"{through.copies:.2f} copies (at most {COPIES_MAX})"
    )
    return met


def picture(world: World, straight: Crowd, through: Crowd) -> str:
    """How fast bytes came to each node, and left upstream."""
    panels = []
    for title, one in (("Straight from the registry", straight), ("Through peerd", through)):
        lines = [
            Line("to each node", BLUE, rates(one.samples, lambda sample, port=host.port: sample.to_host[port]))
            for host in world.hosts.values()
        ]
        sent = rates(one.samples, lambda sample: sample.from_host[world.upstream.port])
        panels.append(Panel(title, [*lines, Line("from the registry", RED, sent, 2.5)]))
    return draw(panels, title="A flash crowd", x=Axis("seconds"), y=Axis("Mbit/s"))


def rates(samples: Sequence[tuple[float, Traffic]], count: Callable[[Traffic], int]) -> list[tuple[float, float]]:
    """Mbit/s between one sample and the next, at the middle of both."""
    return [
        ((began + ended) / 2, (count(after) - count(before)) * 8 / 1e6 / (ended - began))
        for (began, before), (ended, after) in pairwise(samples)
    ]


if __name__ == "__main__":
    sys.exit(main())
