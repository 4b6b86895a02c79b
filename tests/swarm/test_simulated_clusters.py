"""Whole clusters on virtual time, by seed. The long forms and their goals are `python -m bench swarm`."""

import os

import pytest

from app.swarm.simulation.scenarios import flash_crowd, rolling

SEEDS = [int(seed) for seed in os.environ.get("PEERD_SWARM_SEEDS", "1 2 3").split()]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_flash_crowd_takes_one_copy_from_upstream(seed: int) -> None:
    outcome = flash_crowd(40, seed=seed, chunks=128)
    assert outcome.upstream_copies == 1.0
    assert not outcome.doubles
    assert outcome.slowest < 2.0, "a registry alone would need four times the line at ten gigabits"


@pytest.mark.parametrize("seed", SEEDS)
def test_each_zone_takes_one_copy_across_the_border(seed: int) -> None:
    outcome = flash_crowd(30, seed=seed, chunks=128, zones=3)
    assert outcome.upstream_copies <= 1.05
    assert outcome.zone_copies <= 1.2


@pytest.mark.parametrize("seed", SEEDS)
def test_members_that_die_and_slow_ones_keep_nobody_from_the_content(seed: int) -> None:
    outcome = flash_crowd(30, seed=seed, chunks=128, slow=2, killed=3, back_after=1.0)
    assert outcome.upstream_copies <= 1.2


@pytest.mark.parametrize("seed", SEEDS)
def test_who_comes_later_takes_nothing_from_upstream(seed: int) -> None:
    outcome = rolling(12, seed=seed, chunks=128)
    assert outcome.upstream_copies == 1.0
    assert outcome.slowest < 1.2
