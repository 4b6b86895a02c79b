"""Whole clusters on virtual time, by seed. The long forms and their goals are `python -m bench.swarm`."""

import os

import pytest

from app.swarm.simulation import Choices, flash_crowd, rolling

SEEDS = [int(seed) for seed in os.environ.get("PEERD_SWARM_SEEDS", "1 2").split()]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_flash_crowd_takes_little_more_than_each_nodes_own_line(seed: int) -> None:
    outcome = flash_crowd(80, seed=seed, chunks=256)
    assert outcome.upstream_copies == 1.0
    assert not outcome.doubles
    assert outcome.slowest < 1.2, "the registry's line alone would take eight times as long as a node's"


@pytest.mark.parametrize("seed", SEEDS[:1])
def test_slow_members_and_one_that_goes_without_a_word_cost_the_others_little(seed: int) -> None:
    outcome = flash_crowd(100, seed=seed, chunks=384, slow=1, killed=1)
    assert outcome.upstream_copies <= 1.05
    assert outcome.hedges > 0
    assert outcome.slowest < 1.3


@pytest.mark.parametrize("seed", SEEDS)
def test_members_that_die_and_come_back_keep_nobody_from_the_content(seed: int) -> None:
    outcome = flash_crowd(30, seed=seed, chunks=128, slow=2, killed=3, back_after=1.0)
    assert outcome.upstream_copies <= 1.2


@pytest.mark.parametrize("seed", SEEDS[:1])
def test_each_zone_takes_one_copy_across_the_border(seed: int) -> None:
    outcome = flash_crowd(60, seed=seed, chunks=128, zones=3)
    assert outcome.upstream_copies <= 1.05
    assert outcome.zone_copies <= 1.2


@pytest.mark.parametrize("at_once", [1, 10])
def test_who_comes_later_takes_nothing_from_upstream(at_once: int) -> None:
    outcome = rolling(30, seed=1, at_once=at_once, chunks=128)
    assert outcome.upstream_copies == 1.0
    assert outcome.slowest < 1.1


def test_a_registry_slower_than_a_line_is_asked_once_by_all_who_wait_for_it() -> None:
    outcome = flash_crowd(40, seed=1, chunks=64, upstream_bytes_per_s=62.5e6)
    assert outcome.upstream_copies == 1.0


def test_several_contents_at_once_share_a_nodes_line() -> None:
    outcome = flash_crowd(40, seed=1, chunks=256, contents=4)
    assert outcome.upstream_copies == 1.0
    assert outcome.slowest < 1.35


def test_layers_do_not_end_all_at_once() -> None:
    """A client that reads three of eight at a time turns to the next while there is still something to be had of the others."""
    shipped = flash_crowd(60, seed=1, chunks=256, contents=8)
    by_turns = flash_crowd(60, seed=1, chunks=256, contents=8, choices=Choices(eldest=False))
    assert shipped.median < by_turns.median


def test_with_leases_nothing_comes_to_nodes_where_nobody_reads() -> None:
    assert flash_crowd(40, seed=1, chunks=64, readers=4).copies_in_vain == 0
    assert flash_crowd(40, seed=1, chunks=64, readers=4, choices=Choices(leases=False)).copies_in_vain > 0.5


def test_the_same_seed_gives_the_same_cluster() -> None:
    assert flash_crowd(30, seed=5, chunks=64, slow=1) == flash_crowd(30, seed=5, chunks=64, slow=1)
