"""Interruptions per hour: the law over a pool's age, a provider's word, and what the pool did to us."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsched.scheduler.core import hazard
from dsched.scheduler.core.hazard import chance, expected, factor, per_node, presumed, told
from dsched.scheduler.core.market import Advice
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.snapshot import PoolMemory, Streak
from dsched.scheduler.core.units import Instant, Millis
from tests.support.question import NOW, hours, offer

POLICY = Policy()
SPOT = offer("a/p5.48xlarge/spot", 20)
AT = NOW.market


def up_for(count: float) -> Streak:
    return Streak(up=True, since=Instant(AT - hours(count)))


def rate(streak: Streak | None, memory: PoolMemory | None = None) -> float:
    return per_node(presumed(SPOT, streak, AT), memory, POLICY, AT)


def test_without_evidence_the_prior_stands() -> None:
    assert factor(0, 0, 2) == 1


def test_as_much_evidence_as_the_prior_is_worth_counts_as_much() -> None:
    assert factor(0, 2, 2) == pytest.approx(0.5)


def test_evidence_wins_in_the_end() -> None:
    assert factor(3_000, 1_000, 2) == pytest.approx(3, rel=0.01)


@pytest.mark.parametrize(("seen", "due", "weight"), [(-1.0, 1, 2), (1, 1, 0), (1, -1, 2), (float("nan"), 1, 2)])
def test_what_is_not_a_rate_is_refused(seen: float, due: float, weight: float) -> None:
    with pytest.raises(ValueError, match="not a rate"):
        factor(seen, due, weight)


def test_on_demand_machines_still_fail_sometimes() -> None:
    assert per_node(offer("a/p5.48xlarge/on-demand", 55), None, POLICY, AT) == POLICY.hazard_failure


def test_the_longer_a_pool_has_been_up_the_calmer_it_is() -> None:
    rates = [rate(up_for(age)) for age in (0, 1, 4, 16, 64)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 10 * rates[-1]


def test_a_pool_of_which_nothing_is_known_is_neither_new_nor_proven() -> None:
    assert rate(up_for(8)) < rate(None) < rate(up_for(0))


def test_the_providers_word_replaces_the_law() -> None:
    worded = replace(SPOT, hazard=0.5)
    assert presumed(worded, up_for(50), AT) is worded
    assert per_node(worded, None, POLICY, AT) == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), -1.0])
def test_a_word_that_is_no_rate_is_not_believed(nonsense: float) -> None:
    silly = replace(SPOT, hazard=nonsense)
    assert per_node(silly, None, POLICY, AT) == pytest.approx(POLICY.hazard_spot, rel=0.01)
    assert presumed(silly, up_for(2), AT).hazard == presumed(SPOT, up_for(2), AT).hazard


def test_a_presumed_rate_follows_the_age_at_each_look() -> None:
    young = presumed(SPOT, up_for(0), AT)
    assert presumed(young, up_for(9), AT).hazard == presumed(SPOT, up_for(9), AT).hazard


def test_a_pool_that_interrupts_us_is_learned_to_be_stormy() -> None:
    stormy = PoolMemory(pool="p", seen=6, expected=1, aged=AT)
    assert rate(None, stormy) == pytest.approx(rate(None) * 8 / 3, rel=0.01)


def test_a_storm_is_forgotten() -> None:
    old = PoolMemory(pool="p", seen=6, expected=1, aged=Instant(AT - hours(24 * 14)))
    assert rate(None, old) == pytest.approx(rate(None), rel=0.01)


def test_half_of_the_evidence_is_left_after_the_half_life() -> None:
    memory = PoolMemory(pool="p", seen=4, expected=2, aged=AT)
    later = hazard.remembered(memory, 1, 0.5, POLICY, Instant(AT + POLICY.hazard_half_life))
    assert (later.seen, later.expected) == pytest.approx((3, 1.5))


def test_a_life_in_an_old_pool_expects_fewer_interruptions_than_one_in_a_new_pool() -> None:
    launched = Instant(AT - hours(2))
    new = expected(SPOT, Streak(up=True, since=launched), launched, AT)
    old = expected(SPOT, up_for(50), launched, AT)
    assert 0 < old < new / 5


def test_an_on_demand_life_expects_none() -> None:
    assert expected(offer("a/p5.48xlarge/on-demand", 55), None, Instant(AT - hours(5)), AT) == 0


def test_the_chance_of_an_hour_falls_with_the_age_and_rises_with_evidence() -> None:
    stormy = PoolMemory(pool="p", seen=6, expected=1, aged=AT)

    def within(streak: Streak, memory: PoolMemory | None = None) -> float:
        return chance(SPOT, memory, POLICY, streak=streak, now=AT, hours=1)

    assert within(up_for(20)) < within(up_for(20), stormy) < within(up_for(0.2), stormy) < 1


def test_a_streak_begins_when_the_state_changes_and_not_before() -> None:
    first = told({}, "p", up=True, now=AT)
    again = told({"p": first}, "p", up=True, now=Instant(AT + 1))
    down = told({"p": first}, "p", up=False, now=Instant(AT + 2))
    assert first == again
    assert first.since < AT
    assert down == Streak(up=False, since=Instant(AT + 2), rose=first.since)


def test_a_life_that_ended_with_its_pool_is_judged_by_the_age_that_the_pool_had() -> None:
    launched = Instant(AT - hours(2))
    before = up_for(50)
    after = told({"p": before}, "p", up=False, now=AT)
    assert expected(SPOT, after, launched, AT) == pytest.approx(expected(SPOT, before, launched, AT), rel=0.01)


@pytest.mark.parametrize(
    ("calm", "stormy"),
    [
        (Advice(score=10), Advice(score=1)),
        (Advice(obtainability=0.95), Advice(obtainability=0.05)),
        (Advice(uptime=hours(24)), Advice(uptime=hours(1))),
        (Advice(interruption_class=0), Advice(interruption_class=4)),
    ],
)
def test_what_a_provider_hints_moves_the_law(calm: Advice, stormy: Advice) -> None:
    def hinted(advice: Advice | None) -> float:
        return per_node(presumed(replace(SPOT, advice=advice), up_for(3), AT), None, POLICY, AT)

    assert hinted(calm) < hinted(None) < hinted(stormy)


def test_no_hint_moves_the_law_without_bound() -> None:
    wild = Advice(score=-99, obtainability=float("nan"), uptime=Millis(1), interruption_class=99)
    assert hazard.advised(wild) == hazard.ADVICE_MAX
