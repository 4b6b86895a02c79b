"""What overlaybd asks, through `/blobs` of real nodes and straight from nginx: a scan in blocks, and reads here and there.

    python -m bench.overlaybd [--link 200] [--size 256] [--reads 400]

Hosts of their own (network namespaces) with lines of `--link` Mbit/s both ways; peers over mutual TLS. Each pattern has a file of its
own, which one node reads cold from upstream, the other from that node, and then again, warm. The scan asks for 256 KiB after 256 KiB on
one connection; the reads are of 4 KiB to 1 MiB at random places, on four. Every byte is compared. Exit 1 when a scan that has to fetch
is slower than the goal, a part of the line.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.containerd.network import Host, network
from tests.support import made
from tests.support.blob_store import BlobStore, running_blob_store
from tests.support.hosted import running_hosted_nodes
from tests.support.wire import Wire

MIB = 1 << 20
BLOCK_BYTES = 256 << 10
READERS = 4
SCAN_MIN = 0.8
"""Of the line."""

NODE_DOOR = ("127.0.0.1", 5000)

Span = tuple[int, int]
"""First byte and number of bytes."""


@dataclass(frozen=True)
class Outcome:
    """What reading took: bytes, seconds in all, and seconds of each request."""

    count: int
    seconds: float
    latencies: Sequence[float]

    @property
    def mib_per_second(self) -> float:
        """Over all connections."""
        return self.count / MIB / self.seconds

    @property
    def p99_ms(self) -> float:
        """Of single requests."""
        return sorted(self.latencies)[int(0.99 * (len(self.latencies) - 1))] * 1000


def main() -> int:
    """Measure, print the table, and tell whether the goal was met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--link", type=int, default=200, help="Mbit/s of each host, both ways")
    parser.add_argument("--size", type=int, default=256, help="of each file in MiB")
    parser.add_argument("--reads", type=int, default=400, help="at random places")
    arguments = parser.parse_args()
    size, line = arguments.size * MIB, arguments.link * 1e6 / 8 / MIB
    patterns = {
        "scan": [[(at, BLOCK_BYTES) for at in range(0, size, BLOCK_BYTES)]],
        "random reads": [list(places(number, size, arguments.reads // READERS)) for number in range(READERS)],
    }
    print(f"lines of {arguments.link} Mbit/s ({line:.1f} MiB/s), files of {arguments.size} MiB")
    print(f"{'':14}  {'':16}  {'MiB/s':>7}  {'of the line':>11}  {'p99 ms':>8}")
    met = True
    with tempfile.TemporaryDirectory(prefix="peerd-bench-") as name, world(Path(name), arguments.link) as (store, a, b):
        for pattern, spans in patterns.items():
            file = pattern.replace(" ", "-")
            data = made.content(pattern, size)
            (store.files / file).write_bytes(data)
            straight, through = f"/{file}", f"/blobs/{store.url}/{file}"
            origin = (store.address, store.port)
            for source, host, door, target in (
                ("nginx", a, origin, straight),
                ("cold", a, NODE_DOOR, through),
                ("from a peer", b, NODE_DOOR, through),
                ("warm", b, NODE_DOOR, through),
            ):
                outcome = read(host, door, target, spans, data)
                part = outcome.mib_per_second / line
                fetched = source in ("cold", "from a peer")
                verdict = ""
                if pattern == "scan" and fetched:
                    verdict = f"  (goal {SCAN_MIN}: {'met' if part >= SCAN_MIN else 'MISSED'})"
                    met &= part >= SCAN_MIN
                print(
                    f"{pattern:14}  {source:16}  {outcome.mib_per_second:7.1f}  {part:11.2f}  {outcome.p99_ms:8.1f}{verdict}",
                    flush=True,
                )
    return 0 if met else 1


@contextmanager
def world(folder: Path, link: int) -> Iterator[tuple[BlobStore, Host, Host]]:
    """A blob store, and the hosts of two nodes, within this block."""
    with ExitStack() as stack:
        net = stack.enter_context(network())
        upstream, hosts = net.host(100), {f"node-{number}": net.host(number) for number in (1, 2)}
        for host in (upstream, *hosts.values()):
            host.limit(link, both_ways=True)
        (folder / "store").mkdir()
        store = stack.enter_context(running_blob_store(folder / "store", upstream))
        options = ["--upstream-allow", f"{upstream.address}:*", "--log-level", "warning"]
        stack.enter_context(running_hosted_nodes(folder, hosts, *options))
        yield store, *hosts.values()


def places(seed: int, size: int, count: int) -> Iterator[Span]:
    """Random places and sizes; small ones are as frequent as large ones."""
    rng = random.Random(seed)
    for _ in range(count):
        length = int(4096 * 256 ** rng.random())
        yield rng.randrange(size - length), length


def read(host: Host, door: tuple[str, int], target: str, spans: Sequence[Sequence[Span]], data: bytes) -> Outcome:
    """Read lists of spans, each on a connection of its own, at the same time."""
    latencies: list[float] = []
    wires = [host.inside(lambda: Wire(*door)) for _ in spans]
    readers = [
        threading.Thread(target=_read_one, args=(wire, target, some, data, latencies))
        for wire, some in zip(wires, spans, strict=True)
    ]
    began = time.monotonic()
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    seconds = time.monotonic() - began
    for wire in wires:
        wire.close()
    if len(latencies) != sum(map(len, spans)):
        raise SystemExit("not everything was answered")
    return Outcome(sum(count for some in spans for _, count in some), seconds, latencies)


def _read_one(wire: Wire, target: str, spans: Sequence[Span], data: bytes, latencies: list[float]) -> None:
    for start, count in spans:
        asked = time.monotonic()
        reply = wire.ask(target, headers={"Range": f"bytes={start}-{start + count - 1}"})
        latencies.append(time.monotonic() - asked)
        if reply.status != 206 or reply.body != data[start : start + count]:
            raise SystemExit(f"{target}, {count} bytes at {start}: {reply.status}")


if __name__ == "__main__":
    sys.exit(main())
