"""What an account may run at a time is as hard a limit as what a pool has."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsched.scheduler.core.check import OverQuota, check
from dsched.scheduler.core.hold import Hold
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.message import QuotasSeen
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.quota import Left, Quota, claimed, read
from dsched.scheduler.core.report import Why
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import price
from tests.property.test_crowd import solve as crowded
from tests.property.test_planner import POLICIES, questions
from tests.property.test_planner import solve as by_rows
from tests.support.question import ask, job, line, offer, solve
from tests.support.stage import Stage, spec
from tests.support.stage import offer as on_stage

H100 = "p5.48xlarge"
TWO = Quota("aws/us-east-1/p5*/spot", 2, "nodes")


def test_the_pools_of_a_quota_share_it() -> None:
    market = offer(f"a/{H100}/spot", 10), offer(f"b/{H100}/spot", 11), offer(f"c/{H100}/on-demand", 50)
    question = ask([job(f"j{n}") for n in range(3)], *market, quotas=(Left(TWO, 2),))
    plan = solve(question)
    assert [p.pool.zone for p in plan.placements] == ["a", "a", "c"]
    assert {line(plan.reports["j2"], zone).code for zone in "ab"} == {Why.OVER_QUOTA}
    assert check(question, plan) == ()


def test_the_checker_sees_a_quota_that_is_broken() -> None:
    question = ask([job("j1"), job("j2")], offer(f"a/{H100}/spot", 10))
    tight = replace(question, quotas=(Left(TWO, 1),))
    assert OverQuota(TWO.pattern, 2, 1) in check(tight, solve(question))


def test_idle_nodes_are_within_the_quota_already() -> None:
    market = offer(f"a/{H100}/spot", 10)
    question = ask(job(), market, idle={market.pool.id: ("n1",)}, quotas=(Left(TWO, 0),))
    assert [p.reuse for p in solve(question).placements] == [("n1",)]


def test_a_quota_of_the_cloud_is_kept_to_and_one_that_is_raised_wakes_who_waits() -> None:
    stage = Stage(on_stage("a", 10.0, free=9))
    stage.tell(QuotasSeen(provider="local", quotas=(Quota("local/*/p5*/spot", 8, "gpus", "P5 spot"),)))
    first, second = (stage.submit(spec(f"s{n}")) for n in range(2))
    assert [stage.job(name).state for name in (first, second)] == [JobState.STARTING, JobState.QUEUED]
    assert "over-quota" in stage.job(second).reason
    stage.tell(QuotasSeen(provider="local", quotas=(Quota("local/*/p5*/spot", 16, "gpus", "P5 spot"),)))
    assert stage.job(second).state is JobState.STARTING


def test_quotas_are_matched_once_for_each_kind_of_pool_and_a_hold_zone_by_zone() -> None:
    zones = [on_stage(zone, 10.0, market=market) for zone in "ab" for market in (Market.SPOT, Market.RESERVED)]
    of = (Left(read("local/*/p5*/spot", "8 nodes"), 8), Left(Hold("h", "local/b/*", 1, price(1)), 1))
    found = claimed(of, {one.pool.id: one for one in zones})
    assert {id: tuple(claim.number for claim in drawn) for id, drawn in found.items()} == {
        zones[0].pool.id: (0,), zones[1].pool.id: (), zones[2].pool.id: (0,), zones[3].pool.id: (1,),
    }  # fmt: skip


def test_machines_that_we_hold_count() -> None:
    stage = Stage(on_stage("a", 10.0, free=9))
    stage.policy = replace(stage.policy, quotas=(read("local/*/p5*/spot", "16 gpus"),))
    names = [stage.submit(spec(f"s{n}")) for n in range(3)]
    states = [stage.job(name).state for name in names]
    assert states == [JobState.STARTING, JobState.STARTING, JobState.QUEUED]
    assert "over-quota" in stage.job(names[-1]).reason


QUOTAS = st.lists(
    st.builds(
        Left,
        st.builds(
            Quota,
            st.sampled_from(["aws/*/*/*", "aws/r/p5*/*", "aws/r/*/spot", "gcp/*/*/*"]),
            st.just(0),
            st.sampled_from(["vcpus", "gpus", "nodes"]),
        ),
        st.sampled_from([0, 1, 3, 8, 16, 200, 400]),
    ),
    max_size=2,
).map(tuple)


@settings(max_examples=200, deadline=None)
@given(questions(), POLICIES, QUOTAS)
def test_no_plan_is_ever_over_a_quota(question: Question, policy: Policy, quotas: tuple[Left, ...]) -> None:
    bound = replace(question, quotas=quotas)
    assert check(bound, by_rows(bound, policy)) == ()
    assert check(bound, crowded(bound, policy)) == ()


@pytest.mark.parametrize(("pattern", "text"), [("aws/p5", "8 gpus"), ("aws/*/*/*", "8"), ("aws/*/*/*", "many gpus")])
def test_a_quota_that_says_nothing_is_refused_with_an_example(pattern: str, text: str) -> None:
    with pytest.raises(ValueError, match="such as"):
        read(pattern, text)
