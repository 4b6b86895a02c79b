"""Pulls, parts, clients that break off, purges, upstreams that fail, a peer that comes and goes: after each lap nodes hold no more.

Each lap has contents of its own, so that what is kept for each content must be let go of again: the cache holds those of a few laps.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.containerd.processes import open_files
from tests.leaks.holdings import at_rest
from tests.leaks.work import REGISTRY_NAME, Lap
from tests.support.blob_store import BlobStore
from tests.support.nodes import Node, running_nodes
from tests.support.origin import Origin
from tests.support.registry import running_registry
from tests.support.tables import Figures

pytestmark = [pytest.mark.xdist_group("leaks")]

SECONDS = float(os.environ.get("PEERD_LEAKS_SECONDS") or 30)
"""300 in the long form; not counted what it takes until all is warm."""

WARM_LAPS = 3
LAPS_MIN = 4
CLIENTS_AT_ONCE = 8
SLACK = {"files": 8, "sockets": 24, "threads": 16, "tasks": 0, "MiB": 16}
"""Kept connections and the threads that use them grow to what their pools allow; memory, to what the allocator keeps."""


@pytest.fixture(scope="module")
def registry_folder(new_folder: Callable[[], Path]) -> Path:
    return new_folder()


@pytest.fixture(scope="module")
def nodes(new_folder: Callable[[], Path], registry_folder: Path) -> Iterator[list[Node]]:
    """Three; the third comes and goes."""
    with (
        running_registry(registry_folder) as registry,
        running_nodes(
            new_folder(),
            3,
            *("--registry", f"{REGISTRY_NAME}={registry.url}"),
            *("--chunk-size", "256KiB", "--cache-size", "24MiB"),
        ) as nodes,
    ):
        yield nodes


def come_and_go(node: Node, number: int) -> None:
    node.program.end(signal.SIGKILL if number % 2 else signal.SIGTERM)
    node.program.start_again()


def lap(number: int, nodes: Sequence[Node], storage: Path, store: BlobStore, origin: Origin, seed: int) -> None:
    """Everything once."""
    work = Lap(number, storage, store, origin, random.Random(f"{seed} {number}"))
    with ThreadPoolExecutor(CLIENTS_AT_ONCE) as clients:
        done = [clients.submit(come_and_go, nodes[2], number)]
        done += [clients.submit(job) for job in work.jobs(nodes[:2])]
        for one in done:
            one.result()


@pytest.mark.timeout(1200)
def test_what_nodes_hold_stays_the_same(
    nodes: list[Node], registry_folder: Path, blob_store: BlobStore, origin: Origin, figures: Figures
) -> None:
    seed = int(os.environ.get("PEERD_LEAKS_SEED") or random.SystemRandom().getrandbits(32))
    print(f"PEERD_LEAKS_SEED={seed}")
    curves: dict[str, list[dict[str, int]]] = {node.name: [] for node in nodes[:2]}
    began, warm = time.monotonic(), 0.0
    number = 0
    while number < WARM_LAPS + LAPS_MIN or time.monotonic() - warm < SECONDS:
        lap(number, nodes, registry_folder / "data", blob_store, origin, seed)
        number += 1
        for node in nodes[:2]:
            curves[node.name].append(at_rest(node))
            cells = {"after": f"{time.monotonic() - began:.0f} s", "lap": number, "node": node.name}
            figures("What nodes hold", {**cells, **curves[node.name][-1]})
        if number == WARM_LAPS:
            warm = time.monotonic()
    for node in nodes[:2]:
        curve = curves[node.name]
        for kind, slack in SLACK.items():
            before = max(one[kind] for one in curve[:WARM_LAPS])
            # A leak is in every later lap. What one lap happened to need is not, nor what waits for Python's collection of cycles.
            after = min(one[kind] for one in curve[-max(3, len(curve) // 3) :])
            files = "\n".join(open_files(node.program.pid))
            assert after <= before + slack, f"{node.name}: {kind} grew from {before} to {after}\n{files}"
