"""The solver against what can be known by hand, and the laws that feed it."""

from __future__ import annotations

import numpy as np
import pytest

from dsched.scheduler.core.deadline import hazard
from dsched.scheduler.core.deadline.chronicle import Chronicle, tiers
from dsched.scheduler.core.deadline.hazard import HOUR, UP_LAW
from dsched.scheduler.core.deadline.table import STRIDE, Grid, Regime, Table, solve
from dsched.scheduler.core.deadline.view import DOWN, UP

CHANGEOVER = 360.0
JUST_UP, DOWN_FRESH = 0, 2  # rows of a table
GRID = Grid.spanning(24 * HOUR, 6 * HOUR, CHANGEOVER, step=600.0, wide=24)


def table(**parameters: float) -> Table:
    return solve([Regime(**{"ratio": 3.0, **parameters})], GRID, CHANGEOVER)[0]


def at(values: np.ndarray, row: int, hours: float, slack: float) -> float:
    """W at a time left (h) that is kept and the level next to a slack (h)."""
    return float(values[row, round(hours * HOUR / GRID.step / STRIDE), np.abs(GRID.slack - slack * HOUR).argmin()])


def test_spot_that_never_goes_costs_its_price_for_the_work_and_one_changeover() -> None:
    level = GRID.slack[np.abs(GRID.slack - 4 * HOUR).argmin()] / HOUR
    got = at(table(up=1e-9).idle, JUST_UP, 20.0, 4.0)
    assert got == pytest.approx(20.0 - level + CHANGEOVER / HOUR, rel=2e-3)


def test_with_on_demand_at_the_price_of_spot_nothing_costs_more_than_on_demand() -> None:
    held = table(ratio=1.0).held
    work = np.maximum(20.0 - GRID.slack / HOUR, 0.0)
    got = held[DOWN_FRESH, round(20 * HOUR / GRID.step / STRIDE)]
    assert got == pytest.approx(work, rel=1e-3)


def test_more_slack_never_costs_more() -> None:
    for values in (table().idle, table().held):
        levels = values[:, -1, 4:]  # below one changeover nothing can be launched
        assert (np.diff(levels, axis=1) <= 1e-3).all()


def test_the_price_of_slack_falls_with_slack() -> None:
    row = table().held[DOWN_FRESH, -1]
    price = -np.diff(row) / np.diff(GRID.slack)
    coarse = [
        price[(GRID.slack[:-1] >= low * HOUR) & (GRID.slack[:-1] < high * HOUR)].mean()
        for low, high in ((0.1, 0.4), (0.4, 1.2), (1.2, 3.0), (3.0, 6.0))
    ]
    assert coarse == sorted(coarse, reverse=True)


def test_no_slack_means_on_demand_to_the_end() -> None:
    assert at(table().held, JUST_UP, 20.0, 0.0) == pytest.approx(3.0 * 20.0, rel=1e-3)


def test_stormier_spot_costs_more_and_a_second_zone_less() -> None:
    calm, stormy, paired = (at(table(**p).idle, JUST_UP, 20.0, 2.0) for p in ({}, {"up": 3.0}, {"hop": 0.9}))
    assert paired < calm < stormy


def test_regimes_solved_together_are_the_same_as_alone() -> None:
    regimes = [Regime(ratio=2.0), Regime(ratio=4.0, up=0.5, hop=0.5, entry=(0.5, 0.5) + (0.0,) * 8, fee=0.1)]
    together = solve(regimes, GRID, CHANGEOVER)
    for regime, table_ in zip(regimes, together, strict=True):
        assert np.allclose(solve([regime], GRID, CHANGEOVER)[0].idle, table_.idle, rtol=1e-5)


def test_a_grid_finds_its_own_levels() -> None:
    assert GRID.place(GRID.slack) == pytest.approx(np.arange(len(GRID.slack)), abs=1e-6)


def test_old_capacity_outlives_young() -> None:
    young, old = hazard.expected_life(np.array([0.0, 8 * HOUR]), np.ones(2), 24 * HOUR)
    assert old > 3 * young


def test_expected_life_is_the_area_under_survival() -> None:
    span = np.linspace(0.0, 12 * HOUR, 20001)
    area = np.trapezoid(hazard.lasting(900.0, span, 1.5), span)
    assert hazard.expected_life(900.0, 1.5, 12 * HOUR) == pytest.approx(float(area), rel=1e-4)


def test_accrued_hazard_is_the_integral_of_the_law() -> None:
    assert hazard.accrued(1800.0) == pytest.approx(float(UP_LAW[:3].sum() * 600.0))


def test_a_zone_that_fails_more_often_than_the_law_gets_a_higher_factor() -> None:
    book = Chronicle(2, 600.0)
    for tick in range(300):
        book.observe(np.array([UP, UP if tick % 3 else DOWN]), np.array([1.0, 1.0]))
    calm, stormy = book.factor_up
    assert calm < 0.7 < 1.3 < stormy


def test_a_runner_measures_what_it_pays_and_who_takes_it_in() -> None:
    book = Chronicle(2, 600.0)
    for tick in range(600):
        first = tick % 12 < 6
        book.observe(np.array([UP if first else DOWN, DOWN if first else UP]), np.array([1.0, 1.2]))
    cheap, both, _ = book.reading().rides
    assert (cheap.hop, cheap.price) == (0.0, pytest.approx(1.0))
    assert both.hop > 0.95
    assert both.price == pytest.approx(1.1, abs=0.02)


def test_prices_close_to_the_cheapest_are_its_tier_and_dear_ones_are_none() -> None:
    assert tiers(np.array([1.0, 1.05, 1.3, 1.8, 5.0])).tolist() == [0, 0, 1, 2, 3]


def test_unknown_looks_teach_nothing() -> None:
    book, blind = Chronicle(1, 600.0), Chronicle(1, 600.0)
    book.observe(np.array([UP]), np.ones(1))
    blind.observe(np.array([UP]), np.ones(1))
    for _ in range(50):
        blind.observe(np.array([-1]), np.ones(1))
    assert blind.factor_up == pytest.approx(book.factor_up)
