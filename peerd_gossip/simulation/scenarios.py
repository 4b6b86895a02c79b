"""What a cluster is put through, and what is measured: one function for each claim that docs/gossip.md makes.

Each returns an Outcome: figures to print, and whether what must hold did hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from peerd_gossip.messages import Stamp
from peerd_gossip.simulation.cluster import Cluster, SimulatedNode

SAMPLE = 20  # keys of each member that are looked up in the real indexes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run came to."""

    figures: dict[str, float]
    failures: tuple[str, ...]
    happened: dict[str, int]

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {value:.3g}" for name, value in self.figures.items())
        return f"{figures}" + (f"; FAILED: {'; '.join(self.failures)}" if self.failures else "")


def new_key(cluster: Cluster, *, keys: int = 10) -> Outcome:
    """Single keys, one after the other: when do 99 % of members know it, when do all?"""
    spread = []
    for _ in range(keys):
        node = _anybody(cluster)
        spread.append(_spread(cluster, node, list(cluster.nodes.values())))
    to_most = sorted(most for most, _ in spread)
    to_all = [everybody for _, everybody in spread]
    return _outcome(
        cluster,
        {"s to 99 %, median": to_most[keys // 2], "s to 99 %": max(to_most), "s to all": max(to_all)},
        {"99 % within 2 s": max(to_most) <= 2, "all within 10 s": max(to_all) <= 10},
    )


def idle(cluster: Cluster, *, seconds: float = 30) -> Outcome:
    """Nothing happens: what does a member send?"""
    before = cluster.bytes_sent
    cluster.run(seconds)
    rate = (cluster.bytes_sent - before) / len(cluster.nodes) / seconds
    return _outcome(cluster, {"B/s a node": rate}, {"below 20 kB/s": rate < 20_000})


def busy(cluster: Cluster, *, seconds: float = 10, keys: int = 100, batches: int = 10, share: float = 1.0) -> Outcome:
    """Members (a share of them) add 100 keys each in ten seconds, ten at a time: what does a member send?"""
    before = cluster.bytes_sent
    began = cluster.now
    adding = cluster.rng.sample(list(cluster.nodes.values()), max(1, int(share * len(cluster.nodes))))
    plan = sorted((cluster.rng.uniform(0, seconds), node.name, node) for node in adding for _ in range(batches))
    for at, _, node in plan:
        cluster.run(max(began + at - cluster.now, 0))
        cluster.advertise(node, [cluster.rng.getrandbits(64) for _ in range(keys // batches)])
    cluster.run(began + seconds - cluster.now)
    rate = (cluster.bytes_sent - before) / len(cluster.nodes) / seconds
    finished = cluster.now
    settled = cluster.run(30, until=cluster.identical)
    return _outcome(
        cluster,
        {"kB/s a node": rate / 1000, "s until identical": cluster.now - finished},
        {"identical within 30 s": settled},
    )


def restart(cluster: Cluster, *, members: int = 100) -> Outcome:
    """Members die at once and come back a second later, each in a new life: when are all indexes identical?"""
    gone = cluster.rng.sample(list(cluster.nodes.values()), min(members, len(cluster.nodes) // 2))
    held = [node.replica.keys for node in gone]
    cluster.kill(gone)
    cluster.run(1)
    before = cluster.bytes_sent
    began = cluster.now
    cluster.restart(gone, held)
    settled = cluster.run(120, until=cluster.identical)
    took = cluster.now - began
    sent = (cluster.bytes_sent - before) / len(cluster.nodes)
    return _outcome(
        cluster,
        {"s until identical": took, "MB a node": sent / 1e6},
        {"identical within 60 s": settled and took <= 60, "all restarted": cluster.happened["restarted"] == len(gone)},
    )


def partition(cluster: Cluster, *, seconds: float = 30) -> Outcome:
    """The network is cut in two, members on both sides add and withdraw keys, and it heals: when are indexes identical?"""
    cluster.cut()
    for _ in range(int(seconds)):
        cluster.run(1)
        for node in cluster.rng.sample(list(cluster.nodes.values()), max(1, len(cluster.nodes) // 50)):
            cluster.advertise(node, [cluster.rng.getrandbits(64) for _ in range(5)])
            cluster.withdraw(node, cluster.rng.sample(sorted(node.replica.keys), 2))
    before = cluster.bytes_sent
    began = cluster.now
    cluster.heal()
    settled = cluster.run(120, until=cluster.identical)
    took = cluster.now - began
    sent = (cluster.bytes_sent - before) / len(cluster.nodes)
    return _outcome(
        cluster,
        {"s until identical": took, "MB a node": sent / 1e6},
        {"identical within 60 s": settled and took <= 60, "really cut": cluster.happened["cut off"] > 0},
    )


def slow(cluster: Cluster, *, share: float = 0.05) -> Outcome:
    """Some members are a second late with everything: do the others know a new key as soon as ever?"""
    for node in cluster.rng.sample(list(cluster.nodes.values()), max(1, int(share * len(cluster.nodes)))):
        node.slow = True
    quick = [node for node in cluster.nodes.values() if not node.slow]
    to_most = [_spread(cluster, cluster.rng.choice(quick), quick)[0] for _ in range(5)]
    settled = cluster.run(30, until=cluster.identical)
    return _outcome(
        cluster,
        {"s to 99 % of the others": max(to_most)},
        {
            "99 % of the others within 2 s": max(to_most) <= 2,
            "identical within 30 s": settled,
            "really slow": cluster.happened["slow"] > 0,
        },
    )


def churn(cluster: Cluster, *, seconds: float = 30) -> Outcome:
    """Every second a member leaves, one dies, one comes back, and keys come and go everywhere."""
    dead: list[tuple[SimulatedNode, frozenset[int]]] = []
    for _ in range(int(seconds)):
        cluster.run(1)
        leaver, killed = cluster.rng.sample(list(cluster.nodes.values()), 2)
        dead += [(leaver, leaver.replica.keys), (killed, killed.replica.keys)]
        cluster.leave(leaver)
        cluster.kill([killed])
        node, keys = dead.pop(0)
        cluster.restart([node], [keys])
        for node in cluster.rng.sample(list(cluster.nodes.values()), max(1, len(cluster.nodes) // 20)):
            cluster.advertise(node, [cluster.rng.getrandbits(64) for _ in range(3)])
            cluster.withdraw(node, cluster.rng.sample(sorted(node.replica.keys), 3))
    began = cluster.now
    settled = cluster.run(60, until=cluster.identical)
    return _outcome(
        cluster,
        {"s until identical": cluster.now - began},
        {
            "identical within 60 s": settled,
            "members left": cluster.happened["left"] > 0,
            "members died": cluster.happened["killed"] > 0,
        },
    )


SCENARIOS: dict[str, Callable[[Cluster], Outcome]] = {
    "new_key": new_key,
    "idle": idle,
    "busy": busy,
    "restart": restart,
    "partition": partition,
    "slow": slow,
    "churn": churn,
}


def _spread(cluster: Cluster, node: SimulatedNode, among: list[SimulatedNode]) -> tuple[float, float]:
    """Seconds from a member's having a new key until 99 % of those `among` know it, and until all do."""
    me = node.replica.me
    before = node.replica.versions().get(me)
    began = cluster.now
    cluster.advertise(node, [cluster.rng.getrandbits(64)])
    cluster.run(30, until=lambda: node.replica.versions().get(me) != before, check_every=0.001)
    wanted = node.replica.versions().get(me) or Stamp(me, 0, 0)

    def knowing() -> int:
        return sum((other.replica.versions().get(me) or before or wanted) >= wanted for other in among)

    cluster.run(30, until=lambda: knowing() >= 0.99 * len(among), check_every=0.01)
    most = cluster.now - began
    cluster.run(30, until=lambda: knowing() == len(among), check_every=0.01)
    return most, cluster.now - began


def _anybody(cluster: Cluster) -> SimulatedNode:
    return cluster.rng.choice(list(cluster.nodes.values()))


def _outcome(cluster: Cluster, figures: dict[str, float], must: dict[str, bool]) -> Outcome:
    """Whatever was measured, no key that is held and settled may be denied, and the network must have been bad."""
    if cluster.identical():
        denied = cluster.denied(SAMPLE)
        must = {**must, f"no key is denied ({denied} were)": denied == 0}
    must = {**must, "messages were lost": cluster.happened["lost"] > 0 or cluster.conditions.loss == 0}
    return Outcome(figures, tuple(claim for claim, holds in must.items() if not holds), dict(cluster.happened))
