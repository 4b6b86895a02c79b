"""A cluster of 200, or 100, on virtual time, under every fault of peerd_gossip.simulation.

The seed of a run is drawn anew each time and printed: a failing one is run again by the command that the failure names,
or for all of them with PEERD_SIMULATION_SEED..
"""

from __future__ import annotations

import os
import random

import pytest

from peerd_gossip.simulation import SCENARIOS, Cluster

MEMBERS = {"busy": 100, "churn": 100}  # these grow with the square of it; all others have 200
KEYS = 2000
SEED = int(os.environ.get("PEERD_SIMULATION_SEED") or random.SystemRandom().getrandbits(32))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_cluster_under_faults(scenario: str) -> None:
    members = MEMBERS.get(scenario, 200)
    command = f"python -m peerd_gossip.simulation {scenario} --members {members} --keys {KEYS} --seed {SEED}"
    print(command)
    outcome = SCENARIOS[scenario](Cluster(members, seed=SEED, keys=KEYS))
    print(outcome, outcome.happened)
    assert not outcome.failures, f"again by: {command}\n{outcome}"


def test_a_seed_decides_everything() -> None:
    first, second = (SCENARIOS["new_key"](Cluster(30, seed=7, keys=20)) for _ in range(2))
    assert first == second
    assert first != SCENARIOS["new_key"](Cluster(30, seed=8, keys=20))
