"""Users share the fleet by weight: who has used more than a share comes later, inside one priority."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsched.scheduler.core.placement import Policy, Share
from dsched.scheduler.core.share import level, shares, total
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import HOUR, Charge, Instant, Millis, Moment, price, usd
from tests.support.question import ask, job, offer, solve
from tests.support.stage import Stage, spec
from tests.support.stage import offer as on_stage

H100 = "p5.48xlarge"


def users(**used: float) -> dict[str, Share]:
    return {name: Share(float(usd(dollars)), 1.0) for name, dollars in used.items()}


def test_who_has_used_less_is_served_first() -> None:
    market = offer(f"a/{H100}/spot", 10, free=1)
    queue = [job("j1", user="ann"), job("j2", user="bob")]
    assert [p.job for p in solve(ask(queue, market)).placements] == ["j1"]
    assert [p.job for p in solve(ask(queue, market, shares=users(ann=30, bob=10))).placements] == ["j2"]


def test_priority_comes_before_shares() -> None:
    market = offer(f"a/{H100}/spot", 10, free=1)
    queue = [job("j1", user="ann", priority=1), job("j2", user="bob")]
    assert [p.job for p in solve(ask(queue, market, shares=users(ann=30, bob=0))).placements] == ["j1"]


def test_a_crowd_of_one_user_does_not_shut_out_another() -> None:
    """What is given in a pass counts at once: two users without a past get about the same."""
    market = offer(f"a/{H100}/spot", 10, free=10)
    queue = [job(f"a{n:02}", user="ann") for n in range(30)] + [job(f"b{n:02}", user="bob") for n in range(30)]
    placed = [p.job[0] for p in solve(ask(queue, market, shares=users(ann=0, bob=0))).placements]
    assert sorted(placed) == ["a"] * 5 + ["b"] * 5


def test_a_weight_of_two_is_twice_the_share() -> None:
    market = offer(f"a/{H100}/spot", 10, free=12)
    queue = [job(f"a{n:02}", user="ann") for n in range(30)] + [job(f"b{n:02}", user="bob") for n in range(30)]
    known = {"ann": Share(0.0, 2.0), "bob": Share(0.0, 1.0)}
    placed = [p.job[0] for p in solve(ask(queue, market, shares=known)).placements]
    assert sorted(placed) == ["a"] * 8 + ["b"] * 4


def test_what_nobody_else_wants_is_had_by_who_has_used_most() -> None:
    market = offer(f"a/{H100}/spot", 10, free=3)
    assert len(solve(ask([job("j1", user="ann")], market, shares=users(ann=99, bob=0))).placements) == 1


@pytest.mark.parametrize(("used", "over"), [(0.0, 0), (1.0, 0), (1.5, 1), (3.0, 1), (9.0, 1)])
def test_levels_are_octaves_of_the_share(used: float, over: int) -> None:
    known = {"ann": Share(used, 1.0), "bob": Share(1.0, 1.0)}
    assert level("ann", known, total(known)) == over


def test_spend_fades_by_half_in_a_half_life_and_faster_users_have_used_more() -> None:
    stage = Stage(on_stage("a", 10.0, free=4))
    ann, bob = stage.run(replace(spec("a"), user="ann")), stage.run(replace(spec("b"), user="bob"))
    at = Instant(stage.now.market)
    spent = Charge(price(10) * HOUR)
    for name in (ann, bob):
        stage.state.jobs[name] = replace(stage.job(name), spent=spent, started=Instant(at - 1), ended=at)
    for node in list(stage.state.nodes):
        del stage.state.nodes[node]
    policy = Policy(share_half_life=Millis(24 * HOUR))

    def used(after: int) -> float:
        return shares(stage.state, policy, Moment(Instant(0), Instant(at + after)), [])["ann"].used

    assert used(0) == pytest.approx(price(10), rel=1e-3)
    assert used(24 * HOUR) == pytest.approx(price(10) / 2, rel=1e-3)


def test_one_users_waiting_thousands_do_not_hide_anothers_job_of_the_same_kind() -> None:
    stage = Stage(on_stage("a", 10.0, free=1))
    stage.run(replace(spec("first"), user="ann"))
    stage.offers(on_stage("a", 10.0, free=0))
    for n in range(70):
        stage.submit(replace(spec(f"a{n}"), user="ann"))
    stage.wait(HOUR)
    late = stage.submit(replace(spec("late"), user="bob"))
    stage.offers(on_stage("a", 10.0, free=1))
    assert stage.job(late).state is JobState.STARTING
