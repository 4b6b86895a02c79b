"""A flash crowd of thousands on virtual time, decided by the very code that runs on a node.

Everything is drawn from one seed. `bench/swarm.py` runs it at size and holds it to the goals; the tests run it small and look at
each step. What it says of the scheme is in docs/swarm.md.
"""

from app.swarm.simulation.choices import Choices
from app.swarm.simulation.cluster import Cluster, Pull
from app.swarm.simulation.network import SimulatedContent
from app.swarm.simulation.scenarios import Outcome, flash_crowd, rolling

__all__ = ["Choices", "Cluster", "Outcome", "Pull", "SimulatedContent", "flash_crowd", "rolling"]
