"""The flash crowd and the rolling start, in simulation: the deciding code of a real node on virtual time.

    python -m bench.swarm                              all lines with goals (some twenty minutes; 3,000 nodes take most of them)
    python -m bench.swarm --up-to 1000                 the same without the 3,000
    python -m bench.swarm --lines crowd --nodes 300    one of them, at sizes of your own
    python -m bench.swarm --lines choices              what each choice of the scheme is worth, at 300 nodes

Nodes have 1 Gbit/s, the registry 10, latency is 1 ms; each node reads 512 chunks of 1 MiB. In a crowd all start within a tenth of a second,
1 % of the nodes are slow (a fifth of the line) or die in the middle, half of these without a word. Times are multiples of what a node's
own line would take. docs/swarm.md tells what it means. The same seed gives the same figures. Exit 1 when one misses its goal.
A crowd of all four sizes is drawn, too: how long it takes, and how a chunk spreads.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.swarm.simulation import Choices, Outcome, flash_crowd, rolling
from app.swarm.simulation.network import CHUNK_SIZE_BYTES, NODE_BYTES_PER_S, UPSTREAM_BYTES_PER_S
from bench.picture import BLUE, GREY, RED, Axis, Line, Panel, draw
from bench.side_by_side import processes

SIZES = (100, 300, 1000, 3000)
SLOWEST_MAX, UPSTREAM_MAX, ZONE_MAX = 1.3, 1.05, 1.2
LATER_MAX = 1.1

PICTURES = Path(__file__).parent.parent / "docs" / "images"
SPREAD_OF = 1000

CHOICES_NODES = 300
WANTED_BY = 30
CHOICES: dict[str, Choices] = {
    "as shipped": Choices(),
    "homes fetch for others, no leases": Choices(leases=False),
    "no bit fields": Choices(bit_fields=False),
    "members do not say how busy they are": Choices(loads=False),
    "chunks in the client's order": Choices(by_chance=False),
    "queues instead of busy": Choices(busy=False),
    "no hedging": Choices(hedging=False),
    "as much of upstream at once as of others": Choices(window=False),
}


def main() -> int:
    """Run what was asked for; returns 1 when a line misses its goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--lines", nargs="+", choices=LINES, default=["crowd", "zones", "rolling", "layers", "few", "registry"]
    )
    parser.add_argument("--nodes", nargs="+", type=int, default=None, help=f"sizes of the crowd; {SIZES} unless said")
    parser.add_argument("--up-to", type=int, default=max(SIZES), help="the largest of these sizes")
    parser.add_argument("--chunks", type=int, default=512)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(
        f"{'':44} {'slowest':>7} {'median':>7} {'upstream':>8} {'zone':>6} {'requests':>8} {'hedges':>7} {'CPU s':>6}"
    )
    with processes() as pool:
        runs = Runs(pool, arguments.chunks, arguments.seed)
        # All are begun before the first is told: the largest takes as long as many others, which have the other processors meanwhile.
        begun = [LINES[line](runs, arguments.nodes, arguments.up_to) for line in arguments.lines]
        met = [told() for told in begun]
    return 0 if all(met) else 1


@dataclass(frozen=True)
class Row:
    """One line of the table, on its way."""

    name: str
    running: "Future[tuple[Outcome, float]]"

    def told(self) -> Outcome:
        """Print it."""
        outcome, seconds = self.running.result()
        print(
            f"{self.name:44} {outcome.slowest:7.3f} {outcome.median:7.3f} {outcome.upstream_copies:8.3f} "
            f"{outcome.zone_copies:6.2f} {outcome.requests_per_chunk:8.1f} {outcome.hedges:7d} {seconds:6.0f}"
            + (f"   in vain {outcome.copies_in_vain:.2f}" if outcome.copies_in_vain else ""),
            flush=True,
        )
        return outcome


@dataclass(frozen=True)
class Runs:
    """What all rows have in common."""

    pool: Executor
    chunks: int
    seed: int

    def begin(self, name: str, scenario: Callable[..., Outcome], nodes: int, **what: Any) -> Row:
        """A row's simulation, as soon as a processor is free."""
        return Row(name, self.pool.submit(_timed, scenario, nodes, seed=self.seed, chunks=self.chunks, **what))


Told = Callable[[], bool]
"""Prints the rows of a line that was begun, and tells whether its goals were met."""


def _timed(scenario: Callable[..., Outcome], nodes: int, **what: Any) -> tuple[Outcome, float]:
    began = time.process_time()
    outcome = scenario(nodes, **what)
    return outcome, time.process_time() - began


def crowd(runs: Runs, nodes: Sequence[int] | None, up_to: int) -> Told:
    """All nodes at once, at each size."""
    sizes = nodes or [size for size in SIZES if size <= up_to]
    # The largest is begun first: the others have time enough meanwhile.
    rows = {
        count: runs.begin(f"{count} nodes at once", flash_crowd, count, slow=bad(count)[0], killed=bad(count)[1])
        for count in sorted(sizes, reverse=True)
    }

    def told() -> bool:
        outcomes = {count: rows[count].told() for count in sizes}
        if tuple(outcomes) == SIZES:
            (PICTURES / "completion-times.svg").write_text(completion_times(outcomes, runs.chunks))
            (PICTURES / "chunk-spread.svg").write_text(chunk_spread(outcomes[SPREAD_OF]))
        return all(one.slowest <= SLOWEST_MAX and one.upstream_copies <= UPSTREAM_MAX for one in outcomes.values())

    return told


def completion_times(outcomes: Mapping[int, Outcome], chunks: int) -> str:
    """Seconds of nodes that are neither slow nor dead, by how many nodes there are."""
    line = chunks * CHUNK_SIZE_BYTES / NODE_BYTES_PER_S
    # All of them share the registry's line.
    straight = [(count, count * chunks * CHUNK_SIZE_BYTES / UPSTREAM_BYTES_PER_S) for count in outcomes]
    slowest = [(count, one.slowest * line) for count, one in outcomes.items()]
    median = [(count, one.median * line) for count, one in outcomes.items()]
    lines = [
        Line("straight", RED, straight, 2.5),
        Line("slowest, peerd", BLUE, slowest, 2.5),
        Line("median, peerd", BLUE, median),
        Line("own line", GREY, [(count, line) for count in outcomes]),
    ]
    panel = Panel(f"{chunks * CHUNK_SIZE_BYTES >> 20} MiB for each node (simulation)", lines)
    return draw([panel], title="Completion times", x=Axis("nodes", log=True), y=Axis("seconds", log=True))


def chunk_spread(outcome: Outcome) -> str:
    """How many nodes have a chunk: of the one that was first somewhere, the last one, and some between."""
    last = len(outcome.landings) - 1
    chosen = [outcome.landings[last * part // 4] for part in range(5)]
    lines = [
        Line("one of five chunks", BLUE, list(zip(times, range(1, len(times) + 1), strict=True))) for times in chosen
    ]
    panel = Panel(f"Nodes of {SPREAD_OF} that have a chunk (simulation)", lines)
    return draw([panel], title="How a chunk spreads", x=Axis("seconds"), y=Axis("nodes"))


def zones(runs: Runs, nodes: Sequence[int] | None, _up_to: int) -> Told:
    """The same in three zones; and where nodes do not know of them."""
    count = nodes[0] if nodes else 300
    knowing = runs.begin(f"{count} nodes in three zones", flash_crowd, count, zones=3)
    blind = runs.begin(
        f"{count} nodes that do not know their zones", flash_crowd, count, zones=3, choices=Choices(zones=False)
    )

    def told() -> bool:
        outcome = knowing.told()
        blind.told()
        return outcome.zone_copies <= ZONE_MAX and outcome.upstream_copies <= UPSTREAM_MAX

    return told


def one_after_the_other(runs: Runs, nodes: Sequence[int] | None, _up_to: int) -> Told:
    """Nodes that come one by one, and in tens; upstream sends nothing to those that come later."""
    rows = [
        runs.begin(f"{count} nodes, {at_once} at a time", rolling, count, at_once=at_once)
        for count, at_once in ((nodes[0] if nodes else 40, 1), (nodes[0] if nodes else 120, 10))
    ]

    def told() -> bool:
        outcomes = [one.told() for one in rows]
        return all(one.slowest <= LATER_MAX and one.upstream_copies == 1.0 for one in outcomes)

    return told


def few(runs: Runs, nodes: Sequence[int] | None, _up_to: int) -> Told:
    """A tenth of the nodes want it: what comes to the others is in vain."""
    count = nodes[0] if nodes else CHOICES_NODES
    rows = [
        runs.begin(
            f"{count // 10} of {count} nodes want it, {name}", flash_crowd, count, readers=count // 10, choices=choices
        )
        for name, choices in (("leases", Choices()), ("homes fetch for others", Choices(leases=False)))
    ]
    return lambda: all(one.told() for one in rows)


def layers(runs: Runs, nodes: Sequence[int] | None, _up_to: int) -> Told:
    """The content is an image of eight layers, which clients read three at a time; and where layers have slots by turns."""
    rows = []
    for count in nodes or (8, 100):
        name = f"{count} nodes, eight layers"
        turns = Choices(eldest=False)
        rows.append(
            (
                runs.begin(name, flash_crowd, count, contents=8),
                runs.begin(f"{name}, slots by turns", flash_crowd, count, contents=8, choices=turns),
            )
        )

    def told() -> bool:
        met = True
        for shipped, lost in rows:
            outcome = shipped.told()
            lost.told()
            met &= outcome.slowest <= SLOWEST_MAX and outcome.upstream_copies <= UPSTREAM_MAX
        return met

    return told


def registry(runs: Runs, nodes: Sequence[int] | None, _up_to: int) -> Told:
    """A registry that is slower than a node's line: whoever waits does not go there too."""
    count = nodes[0] if nodes else 100
    name = f"{count} nodes, a registry of 0.5 Gbit/s"
    row = runs.begin(name, flash_crowd, count, upstream_bytes_per_s=62.5e6)
    return lambda: row.told().upstream_copies <= UPSTREAM_MAX


def choices(runs: Runs, nodes: Sequence[int] | None, _up_to: int) -> Told:
    """The scheme, and what it is without each of its parts."""
    count = nodes[0] if nodes else CHOICES_NODES
    slow, killed = bad(count)
    rows = [
        runs.begin(name, flash_crowd, count, slow=slow, killed=killed, choices=chosen)
        for name, chosen in CHOICES.items()
    ]
    return lambda: all(one.told() for one in rows)


def bad(count: int) -> tuple[int, int]:
    """How many are slow, and how many die: together one in a hundred."""
    return count // 200, count // 100 - count // 200


LINES: dict[str, Callable[[Runs, Sequence[int] | None, int], Told]] = {
    "crowd": crowd,
    "zones": zones,
    "rolling": one_after_the_other,
    "layers": layers,
    "few": few,
    "registry": registry,
    "choices": choices,
}

if __name__ == "__main__":
    sys.exit(main())
