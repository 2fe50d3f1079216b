"""Storms of faults around the core: never two runners, never a node with two masters, and everything ends."""

from __future__ import annotations

import pytest

from dsched.scheduler.core.units import to_charge, usd
from dsched.scheduler.sim.storm.storm import Storm

SEEDS = 150  # a few seconds; `make prove` runs as many as wanted


@pytest.mark.parametrize("tenth", range(10))
def test_no_storm_breaks_an_invariant_and_afterwards_everything_ends(tenth: int) -> None:
    for seed in range(tenth, SEEDS, 10):
        storm = Storm(seed)
        storm.blow(600)
        storm.calm()


@pytest.mark.parametrize("fifth", range(5))
def test_no_storm_costs_more_than_its_limit(fifth: int) -> None:
    """Not even while the daemon is away: what a lease may cost is set aside before it is granted."""
    for seed in range(fifth, SEEDS // 3, 5):
        storm = Storm(seed, limit="60")
        storm.blow(600)
        storm.linger()
        if not storm.jumpy:
            storm.judge.money()
            assert storm.judge.cost() <= to_charge(usd(60)), seed


def test_the_storms_really_blow() -> None:
    """Every kind of fault happens, or the harness proves nothing."""
    seen: set[str] = set()
    for seed in range(20):
        storm = Storm(seed)
        storm.blow(600)
        seen |= set(storm.counts)
    assert seen >= {
        "crash",
        "kill",
        "notice",
        "offers",
        "person",
        "agent",
        "budget",
        "stranger",
        "session",
        "away",
        "launch",
        "late launch",
        "late answer",
        "doubled answer",
        "unheard",
        "unanswered",
        "drought",
        "undead",
        "jump",
        "sleep",
        "refused wish",
    }


def test_the_same_seed_gives_the_same_log() -> None:
    first, second = Storm(7), Storm(7)
    first.blow(400)
    second.blow(400)
    assert first.log == second.log
