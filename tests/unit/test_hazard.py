"""Interruptions per hour: what a pool's own history says, and what is believed without one."""

from __future__ import annotations

import pytest

from dsched.scheduler.core.hazard import per_node, posterior
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.snapshot import PoolMemory
from dsched.scheduler.core.units import Millis
from tests.support.question import hours, offer

POLICY = Policy()


def test_without_evidence_the_prior_stands() -> None:
    assert posterior(0.05, 24, 0, Millis(0)) == pytest.approx(0.05)


def test_a_day_of_watching_counts_as_much_as_the_prior() -> None:
    assert posterior(0.05, 24, 0, hours(24)) == pytest.approx(0.025)


def test_evidence_wins_in_the_end() -> None:
    assert posterior(0.05, 24, 1_000, hours(10_000)) == pytest.approx(0.1, rel=0.01)


@pytest.mark.parametrize(("prior", "weight", "events"), [(-1.0, 24, 0), (0.1, 0, 0), (0.1, 24, -1)])
def test_what_is_not_a_rate_is_refused(prior: float, weight: float, events: int) -> None:
    with pytest.raises(ValueError, match="not a rate"):
        posterior(prior, weight, events, Millis(0))


def test_on_demand_machines_still_fail_sometimes() -> None:
    got = per_node(offer("a/p5.48xlarge/on-demand", 55), None, POLICY)
    assert got == POLICY.hazard_failure


def test_the_providers_word_replaces_the_general_prior() -> None:
    assert per_node(offer("a/p5.48xlarge/spot", 20), None, POLICY) == pytest.approx(0.05, rel=0.01)
    assert per_node(offer("a/p5.48xlarge/spot", 20, hazard=0.5), None, POLICY) == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), -1.0])
def test_a_word_that_is_no_rate_is_not_believed(nonsense: float) -> None:
    assert per_node(offer("a/p5.48xlarge/spot", 20, hazard=nonsense), None, POLICY) == pytest.approx(0.05, rel=0.01)


def test_a_pool_that_interrupts_us_is_learned_to_be_stormy() -> None:
    memory = PoolMemory(pool="p", interruptions=6, exposure=hours(6))
    assert per_node(offer("a/p5.48xlarge/spot", 20), memory, POLICY) == pytest.approx(7.2 / 30, rel=0.01)
