"""Eight machines pull and read while nodes and upstream come and go and one member lies: nothing fails, no byte is wrong.

A client turns to its origin as containerd does (`tests/support/client.py`). Where the origin itself is away the pull is begun again, as
the kubelet does; that counts as no failure of the node, and is let pass only when upstream really was away.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.content.byte_range import ByteRange
from tests.chaos.faults import Faults
from tests.chaos.liar import Lie, lying
from tests.containerd.fleet import REGISTRY_PORT, HostedNode, RegistryHost, running_registry_host
from tests.containerd.network import network
from tests.containerd.oci import OciImage, image_of, random_layer
from tests.support.blob_store import BlobStore, running_blob_store
from tests.support.client import Client, OriginAway, Place, Tally, at_url, in_registry
from tests.support.hosted import DOOR, PEER_PORT, running_hosted_nodes
from tests.support.made import content, write
from tests.support.nodes import wait_until_agreed
from tests.support.tables import Figures

pytestmark = [pytest.mark.xdist_group("chaos")]

SEED = int(os.environ.get("PEERD_CHAOS_SEED") or random.SystemRandom().getrandbits(32))
PULLS = int(os.environ.get("PEERD_CHAOS_PULLS") or 24)
"""100 in the long form."""

READS = int(os.environ.get("PEERD_CHAOS_READS") or 240)
"""Of parts; 1,000 in the long form."""

NAMES = "abcdefgh"
LIAR = "h"
LINK_MBIT_PER_S = 100
CLIENTS_AT_ONCE = 12

FILE_OF_THE_LIAR = "/file-0"
IMAGES = 8
LAYER_BYTES = 3 << 20
FILES = 6
FILE_BYTES = (8 << 20) + 321
PART_BYTES_MAX = 600_000
CACHE = "40MiB"
"""Less than half of all that is read, so that it is fetched again and again."""

AGAIN_MAX = 60
"""How often one thing may be begun again; a second lies between."""


@dataclass(frozen=True)
class World:
    """All of it."""

    nodes: dict[str, HostedNode]
    registry: RegistryHost
    blob_store: BlobStore
    folder: Path
    images: dict[str, OciImage]

    @property
    def files(self) -> dict[str, bytes]:
        return {f"/file-{number}": content(f"chaos file {number}", FILE_BYTES + number) for number in range(FILES)}


@pytest.fixture(scope="module")
def world(new_folder: Callable[[], Path]) -> Iterator[World]:
    folder = new_folder()
    layers = {seed: random_layer(f"chaos {seed}", LAYER_BYTES) for seed in ["base", "left", "right", *"01234567"]}
    with ExitStack() as stack:
        net = stack.enter_context(network())
        upstream = net.host(100)
        hosts = {name: net.host(number) for number, name in enumerate(NAMES, start=1)}
        for host in (upstream, *hosts.values()):
            host.limit(LINK_MBIT_PER_S, both_ways=True)
        registry = stack.enter_context(running_registry_host(folder / "registry", upstream))
        (folder / "store").mkdir()
        blob_store = stack.enter_context(running_blob_store(folder / "store", upstream))
        images = {}
        for number in range(IMAGES):
            seeds = ["base", "left" if number % 2 else "right", str(number)]
            images[f"team/chaos-{number}"] = image_of([layers[seed] for seed in seeds], label=f"chaos {number}")
        for repository, image in images.items():
            registry.publish(image, repository)
        for number in range(FILES):
            write(blob_store.files / f"file-{number}", f"chaos file {number}", FILE_BYTES + number)
        nodes = stack.enter_context(
            running_hosted_nodes(
                folder,
                hosts,
                *("--registry", f"registry.test={registry.url}"),
                *("--upstream-allow", f"{upstream.address}:*"),
                *("--chunk-size", "512KiB", "--cache-size", CACHE),
                own={LIAR: ("--peer-addr", f"127.0.0.1:{PEER_PORT}")},
            )
        )
        yield World(nodes, registry, blob_store, folder, images)


class Work:
    """What is asked for, by whom and when: drawn from the seed."""

    def __init__(self, world: World, faults: Faults, tally: Tally) -> None:
        self._world = world
        self._faults = faults
        self._files = world.files
        self._clients = {name: Client(node.machine, DOOR, tally) for name, node in world.nodes.items()}
        self._lock = threading.Lock()
        self.begun_again = 0

    def jobs(self, rng: random.Random) -> list[Callable[[], None]]:
        """All pulls and reads, in an order of their own."""
        made = [self._pull(rng.choice(NAMES), rng.choice(sorted(self._world.images))) for _ in range(PULLS)]
        for _ in range(READS):
            start = rng.randrange(FILE_BYTES - 1)
            length = rng.randint(1, min(PART_BYTES_MAX, FILE_BYTES - start))
            made.append(self._read(rng.choice(NAMES), rng.choice([*sorted(self._files), None]), start, length, rng))
        rng.shuffle(made)
        return made

    def _pull(self, node: str, repository: str) -> Callable[[], None]:
        image = self._world.images[repository]
        place_of = in_registry((self._world.registry.host.address, REGISTRY_PORT), "registry.test", repository)
        held: set[str] = set()

        def pull() -> None:
            self._until_done(lambda: self._clients[node].pull(place_of, "1", str(image.target), held))
            assert held == {str(digest) for digest in image.digests}

        return pull

    def _read(self, node: str, path: str | None, start: int, length: int, rng: random.Random) -> Callable[[], None]:
        """A part of a file, or of a layer as lazy snapshotters read it."""
        store = self._world.blob_store
        if path is not None:
            place, data = at_url((store.address, store.port), path), self._files[path]
        else:
            place, data = self._layer(rng)
            start %= len(data) - PART_BYTES_MAX
        span = ByteRange(start, start + length)

        def read() -> None:
            got = bytearray()

            def once() -> None:
                got[:] = b"".join(self._clients[node].read(place, span))

            self._until_done(once)
            assert got == data[start : start + length], f"wrong bytes: {place.at_node} {span}"

        return read

    def read_whole(self, node: str, path: str) -> None:
        """A file, now."""
        self._read(node, path, 0, len(self._files[path]), random.Random(SEED))()

    def _layer(self, rng: random.Random) -> tuple[Place, bytes]:
        repository = rng.choice(sorted(self._world.images))
        image = self._world.images[repository]
        layer = rng.choice(image.layers)
        origin = (self._world.registry.host.address, REGISTRY_PORT)
        return in_registry(origin, "registry.test", repository)(f"blobs/{layer}"), image.blobs[layer]

    def _until_done(self, once: Callable[[], None]) -> None:
        """What broke off because upstream was away is begun again a second later."""
        for _ in range(AGAIN_MAX):
            began = time.monotonic()
            try:
                once()
            except OriginAway:
                if not self._faults.was_upstream_away(began):
                    raise
                with self._lock:
                    self.begun_again += 1
                time.sleep(1.0)
            else:
                return
        pytest.fail(f"begun {AGAIN_MAX} times")


@pytest.mark.timeout(3000)
def test_nothing_fails_and_no_byte_is_wrong(world: World, figures: Figures) -> None:
    print(f"PEERD_CHAOS_SEED={SEED} PEERD_CHAOS_PULLS={PULLS} PEERD_CHAOS_READS={READS}")
    servers = [world.registry.program, world.blob_store.program]
    faults = Faults([node.program for node in world.nodes.values()], servers, world.registry.host, SEED)
    tally = Tally()
    work = Work(world, faults, tally)
    began = time.monotonic()
    with (
        lying(world.nodes[LIAR].machine, LIAR, world.folder / "certs", random.Random(SEED)) as told,
        ExitStack() as stack,
        ThreadPoolExecutor(CLIENTS_AT_ONCE) as threads,
    ):
        # What it has and nobody else, it is asked for. Chance alone may not come to that in a short run.
        work.read_whole(LIAR, FILE_OF_THE_LIAR)
        wait_until_agreed(list(world.nodes.values()))
        for name in NAMES:
            if not told[Lie.WRONG_BYTES]:
                work.read_whole(name, FILE_OF_THE_LIAR)
        stack.enter_context(faults.happening())
        done = [threads.submit(job) for job in work.jobs(random.Random(SEED))]
        failures = [error for one in done if (error := one.exception()) is not None]
    lies = {lie.value: count for lie, count in told.items() if lie is not Lie.TRUE}
    figures(
        f"Chaos: {PULLS} pulls and {READS} reads of parts (PEERD_CHAOS_SEED={SEED})",
        {
            "seconds": f"{time.monotonic() - began:.0f}",
            "failed": len(failures),
            "MiB by nodes": tally.from_node >> 20,
            "by origins": tally.from_origin >> 20,
            "gone on": tally.gone_on,
            "turned to the origin": tally.turned_to_origin,
            "begun again": work.begun_again,
            "longest wait": f"{tally.longest_wait_seconds:.1f} s",
        },
    )
    figures("What went wrong meanwhile", {**faults.happened, "lies": sum(lies.values())})
    figures("Lies", lies)
    assert not failures, f"{len(failures)} failed; the first: {failures[0]!r}"
    assert all(faults.happened.values()), "each fault happened"
    assert told[Lie.WRONG_BYTES], "the liar was believed to be worth asking"
