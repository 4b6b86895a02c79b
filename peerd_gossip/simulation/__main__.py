"""`python -m peerd_gossip.simulation SCENARIO --members N --seed S`: run one simulation, or run it again."""

from __future__ import annotations

import argparse
import random
import sys
import time

from peerd_gossip.simulation import SCENARIOS, Cluster, NetworkConditions


def main() -> int:
    """Exit 1 when what must hold did not hold."""
    parser = argparse.ArgumentParser(prog="python -m peerd_gossip.simulation", description=main.__doc__)
    parser.add_argument("scenario", choices=[*SCENARIOS, "all"])
    parser.add_argument("--members", type=int, default=200)
    parser.add_argument("--keys", type=int, default=2000, help="keys that each member holds at the start")
    parser.add_argument("--loss", type=float, default=NetworkConditions().loss, help="share of messages that are lost")
    parser.add_argument("--seed", type=int, help="drawn at random, and printed, unless given")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().getrandbits(32)
    failed = False
    for name in SCENARIOS if arguments.scenario == "all" else [arguments.scenario]:
        print(f"{name} --members {arguments.members} --keys {arguments.keys} --seed {seed}", flush=True)  # noqa: T201
        began = time.perf_counter()
        cluster = Cluster(
            arguments.members, seed=seed, keys=arguments.keys, conditions=NetworkConditions(loss=arguments.loss)
        )
        outcome = SCENARIOS[name](cluster)
        print(f"    {outcome} ({time.perf_counter() - began:.1f} s of real time)", flush=True)  # noqa: T201
        print(f"    {outcome.happened}", flush=True)  # noqa: T201
        failed |= bool(outcome.failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
