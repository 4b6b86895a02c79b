"""A warm pull of a 1 GiB image through peerd, its bytes at one peer, beside one straight from the registry.

Real containerd, docker-registry and nodes, each on a host of its own (network namespaces), peers over mutual TLS. Both pulls go
over links of the same speed, in turn; each is unpacked, and each image is removed before the next pull. `registry/peerd` is how many
times faster the pull through peerd is.
`python -m bench.containerd --link 1000 --rounds 3`; exit 1 when the ratio of the slowest link misses its goal.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from tests.containerd.fleet import Fleet, running_fleet
from tests.containerd.oci import OciImage, image_of, random_layer

LAYERS = 8
MIB = 1 << 20
RATIO_MIN = 0.9
"""Of the registry's speed: on a link that is slower than the machine, a peer is as good a source as the registry."""


def main() -> int:
    """Measure, print the table, and tell whether the goal was met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--link", type=int, action="append", help="Mbit/s that each host may send; 0: no limit")
    parser.add_argument("--rounds", type=int, default=3, help="pulls of each kind and link; the median counts")
    parser.add_argument("--size", type=int, default=1024, help="of the image in MiB")
    arguments = parser.parse_args()
    links = arguments.link or [1000, 0]
    size = arguments.size * MIB // LAYERS
    image = image_of([random_layer(f"bench/{number}", size) for number in range(LAYERS)], label="bench")
    print(
        f"an image of {arguments.size} MiB in {LAYERS} layers, pulled and unpacked; median of {arguments.rounds}, all in seconds"
    )
    print(f"{'link':>14}  {'from the registry':>22}  {'through peerd':>22}  registry/peerd")
    with tempfile.TemporaryDirectory(prefix="peerd-bench-") as folder, running_fleet(Path(folder), 2) as fleet:
        name = fleet.registry.publish(image, "bench/app")
        fleet.machines[0].pull(name)
        fleet.wait_until_told()
        ratios = [compare(fleet, image, name, link, arguments.rounds) for link in links]
    return 0 if ratios[0] >= RATIO_MIN else 1


def compare(fleet: Fleet, image: OciImage, name: str, link_mbit_per_s: int, rounds: int) -> float:
    """One line of the table."""
    peer, puller = fleet.machines
    for host in (peer.host, fleet.registry.host):
        if link_mbit_per_s:
            host.limit(link_mbit_per_s)
        else:
            host.unlimit()
    direct, through = [], []
    for _ in range(rounds):
        direct.append(puller.pull(name, mirrored=False))
        puller.forget()
        sent, uploaded = fleet.registry.sent(image), peer.node.metric("peerd_uploaded_bytes_total")
        through.append(puller.pull(name))
        layers = sum(len(image.blobs[layer]) for layer in image.layers)
        if fleet.registry.sent(image) != sent or peer.node.metric("peerd_uploaded_bytes_total") - uploaded < layers:
            raise SystemExit("not all of it came from the peer")
        puller.forget()
    ratio = statistics.median(direct) / statistics.median(through)
    link = f"{link_mbit_per_s} Mbit/s" if link_mbit_per_s else "no limit"
    print(f"{link:>14}  {shown(direct):>22}  {shown(through):>22}  {ratio:.2f}", flush=True)
    return ratio


def shown(seconds: list[float]) -> str:
    """The median, and all of them."""
    return f"{statistics.median(seconds):.1f}  ({' '.join(f'{one:.1f}' for one in seconds)})"


if __name__ == "__main__":
    sys.exit(main())
