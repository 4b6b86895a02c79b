"""A cluster of thousands on virtual time, made of the very code that runs on a node.

Everything is drawn from one seed: loss, delay, who tells whom. A run is repeated by
`python -m peerd_gossip.simulation SCENARIO --members N --seed S`.
"""

from peerd_gossip.simulation.cluster import Cluster, NetworkConditions
from peerd_gossip.simulation.scenarios import SCENARIOS, Outcome

__all__ = ["SCENARIOS", "Cluster", "NetworkConditions", "Outcome"]
