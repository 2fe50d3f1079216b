"""Clocks that are set and hosts that sleep, among all the other faults: still never two runners of one job."""

from __future__ import annotations

from typing import Any

import pytest

from dsched.scheduler.core import step
from dsched.scheduler.sim.judge import Violation
from dsched.scheduler.sim.storm.storm import Storm

SEEDS = [seed for seed in range(150) if Storm(seed).jumpy]


def blow_all() -> None:
    for seed in SEEDS:
        Storm(seed).blow(800)


@pytest.mark.parametrize("fifth", range(5))
def test_no_jump_of_a_clock_starts_a_second_runner(fifth: int) -> None:
    counts: set[str] = set()
    for seed in SEEDS[fifth::5]:
        storm = Storm(seed)
        storm.blow(800)
        counts |= set(storm.counts)
    assert counts >= {"jump", "sleep"}


def test_a_core_that_trusts_the_wall_clock_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any) -> None:
        return

    monkeypatch.setattr(step.fleet, "clock_jumped", nothing)
    with pytest.raises(Violation):
        blow_all()
