"""Many images of shared layers, pulled by all machines at once, again and again: nothing is wrong, and nothing leaks."""

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.containerd.fleet import Fleet, Machine, running_fleet
from tests.containerd.oci import OciImage, image_of, random_layer
from tests.containerd.processes import kinds, open_files, resident_bytes, threads
from tests.support.tables import Figures

pytestmark = [pytest.mark.xdist_group("containerd-rounds")]

ROUNDS = int(os.environ.get("PEERD_PULL_ROUNDS") or 4)
"""20 in the long form; each takes about 8 s on two busy cores."""

PULLS_AT_ONCE = 5
IMAGES = 10
LAYER_BYTES = 2 << 20


@pytest.fixture(scope="module")
def fleet(new_folder: Callable[[], Path]) -> Iterator[Fleet]:
    """Three machines, whose chunks are small enough for a layer to have several."""
    with running_fleet(new_folder(), 3, "--chunk-size", "512KiB") as fleet:
        yield fleet


@pytest.fixture(scope="module")
def images(fleet: Fleet) -> dict[str, OciImage]:
    """Ten, by name: each has a base in common with all, two layers with some, and one of its own."""
    layers = {seed: random_layer(seed, LAYER_BYTES) for seed in ["base", "left", "right", *map(str, range(IMAGES))]}
    made = {}
    for number in range(IMAGES):
        seeds = ["base", "left" if number % 2 else "right", str(number // 3), str(number)]
        image = image_of([layers[seed] for seed in dict.fromkeys(seeds)], label=f"rounds {number}")
        made[fleet.registry.publish(image, f"team/rounds-{number}")] = image
    return made


def held(machine: Machine) -> dict[str, float]:
    """What its peerd holds of what can leak."""
    pid = machine.node.program.pid
    return {
        **{f"open {kind}": float(count) for kind, count in kinds(open_files(pid)).items()},
        "threads": threads(pid),
        "tasks": machine.node.metric("peerd_tasks"),
    }


def settled(machine: Machine) -> dict[str, float]:
    """The same, when nothing is under way any more: the least of what is seen until it stays."""
    seen = [held(machine)]

    def unchanged() -> bool:
        seen.append(held(machine))
        return len(seen) > 10 and seen[-10:] == seen[-1:] * 10

    machine.node.program.wait_until(unchanged, "at rest")
    return seen[-1]


def pull_all(fleet: Fleet, images: Mapping[str, OciImage], rng: random.Random) -> None:
    """Five pulls at once on each machine; what came is right, and is removed."""
    chosen = {machine.node.name: rng.sample(sorted(images), PULLS_AT_ONCE) for machine in fleet.machines}
    with ExitStack() as pulls:
        for machine in fleet.machines:
            for name in chosen[machine.node.name]:
                pulls.enter_context(machine.pulling(name))
    for machine in fleet.machines:
        names = chosen[machine.node.name]
        expected = {str(digest) for name in names for digest in images[name].digests}
        assert machine.containerd.blobs() == expected
        assert not machine.containerd.rotten_blobs()
        machine.containerd.remove_images()
        assert not machine.containerd.blobs()


def test_rounds_of_pulls_succeed_and_leak_nothing(fleet: Fleet, images: dict[str, OciImage], figures: Figures) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(2):
        pull_all(fleet, images, rng)
    before = {machine.node.name: settled(machine) for machine in fleet.machines}
    for _ in range(2, ROUNDS):
        pull_all(fleet, images, rng)
    for machine in fleet.machines:
        after, earlier = settled(machine), before[machine.node.name]
        memory = f"{resident_bytes(machine.node.program.pid) >> 20} MiB"
        figures(f"Held after {ROUNDS} rounds", {"machine": machine.node.name, **after, "memory": memory})
        # Kept connections and the threads that use them grow to what their pools allow.
        slack = {"open socket": 16, "threads": 35}
        grown = {kind: (earlier.get(kind, 0), now) for kind, now in after.items() if now > earlier.get(kind, 0)}
        leaks = {kind: both for kind, both in grown.items() if both[1] - both[0] > slack.get(kind, 0)}
        assert not leaks, "\n".join(open_files(machine.node.program.pid))
