"""Goodput and the checkpoint interval: formulas against a simulation, and what they do at their edges."""

from __future__ import annotations

import math
import random

import pytest

from dsched.scheduler.core.goodput import LEAST, checkpoint_interval, goodput
from dsched.scheduler.core.units import HOUR, MINUTE, SECOND, Millis
from tests.support.question import hours


def test_young_finds_the_interval_that_loses_least() -> None:
    write, mtbf = Millis(30 * SECOND), hours(10)
    best = checkpoint_interval(write, mtbf)

    def useful(every: float) -> float:
        rate = HOUR / mtbf
        return goodput(hazard=rate, unwarned=rate, restart=MINUTE, write=write, every=Millis(round(every)))

    assert best == round(math.sqrt(2 * write * mtbf))
    assert useful(best) > useful(best / 2)
    assert useful(best) > useful(best * 2)


@pytest.mark.parametrize(("write", "mtbf"), [(0, 1), (1, 0), (-1, 1)])
def test_no_interval_is_best_without_a_write_or_a_failure(write: int, mtbf: int) -> None:
    with pytest.raises(ValueError, match="no best interval"):
        checkpoint_interval(Millis(write), Millis(mtbf))


def test_a_calm_hour_loses_only_its_checkpoints() -> None:
    assert goodput(hazard=0, unwarned=0, restart=MINUTE, write=MINUTE, every=Millis(9 * MINUTE)) == 0.9


def test_a_notice_spares_the_rework_but_not_the_restart() -> None:
    usual = {"hazard": 0.5, "restart": Millis(6 * MINUTE), "write": SECOND, "every": hours(1)}
    warned, unwarned = goodput(**usual, unwarned=0.0), goodput(**usual, unwarned=0.5)
    assert warned == pytest.approx(math.exp(-0.05), rel=0.001)
    assert unwarned < warned - 0.2


def test_a_storm_never_breaks_the_arithmetic() -> None:
    assert goodput(hazard=1e9, unwarned=1e9, restart=HOUR, write=HOUR, every=HOUR) == LEAST


@pytest.mark.parametrize("rate", [0.1, 1.0])
def test_the_formula_is_what_a_played_out_life_gives(rate: float) -> None:
    """Play a job through exponential interruptions: segments, restarts and all."""
    dice, every, write, restart = random.Random(7), hours(0.3), hours(0.02), hours(0.1)
    clock, done = 0.0, 0.0
    strike = dice.expovariate(rate)
    for _ in range(60_000):
        need = (every + write) / HOUR
        if strike >= need:
            clock, done, strike = clock + need, done + every / HOUR, strike - need
            continue
        clock, strike = clock + strike, dice.expovariate(rate)
        while strike < restart / HOUR:  # a restart can be interrupted too
            clock, strike = clock + strike, dice.expovariate(rate)
        clock, strike = clock + restart / HOUR, strike - restart / HOUR
    told = goodput(hazard=rate, unwarned=rate, restart=restart, write=write, every=every)
    assert told == pytest.approx(done / clock, rel=0.02)
