"""The deadline is kept whatever the spot market does, as long as sure capacity can be had: for every policy."""

from __future__ import annotations

import pytest

from dsched.scheduler.core.timely import rule
from tests.support.promise import Unkind

WITHIN = (10.3, 10.6, 11, 12, 14, 20)  # hours, for ten hours of work


@pytest.mark.parametrize("policy", ["slack", "up", "greedy", "on-demand"])
@pytest.mark.parametrize("third", range(3))
def test_no_unkindness_of_the_market_costs_a_deadline(policy: str, third: int) -> None:
    for seed in range(third, 12, 3):
        within = WITHIN[seed % len(WITHIN)]
        world = Unkind(seed, work=10, within=within, policy=policy).play()
        assert world.finished is not None, seed
        assert world.finished <= within * 3_600_000, seed


def test_nor_where_nobody_tells_what_can_be_had() -> None:
    """As on real clouds: spot is found by trying."""
    for seed in range(6):
        world = Unkind(seed, work=10, within=WITHIN[seed], policy="slack", tells=False).play()
        assert world.finished is not None, seed
        assert world.finished <= WITHIN[seed] * 3_600_000, seed


def test_nor_a_job_that_tells_nothing_and_saves_nothing() -> None:
    """In a calm market, where there is much to lose."""
    for seed in range(6):
        world = Unkind(seed, work=10, within=14, policy="slack", mute=True, falls=0.003).play()
        assert world.finished is not None, seed
        assert world.finished <= 14 * 3_600_000, seed


def test_without_the_net_the_same_markets_cost_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the test above proves nothing."""
    monkeypatch.setattr(rule, "guarded", lambda inner, **_: inner)
    worlds = [Unkind(seed, work=10, within=11, policy="greedy").play() for seed in range(4)]
    assert any(world.finished is None or world.finished > 11 * 3_600_000 for world in worlds)


def test_spot_is_used_where_there_is_time() -> None:
    world = Unkind(5, work=10, within=20, policy="slack").play()
    assert "spot" in world.bought
