"""What must hold for every queue and every market, whatever the numbers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from dsched.providers import catalog
from dsched.scheduler.core.check import check
from dsched.scheduler.core.goodput import LEAST, goodput
from dsched.scheduler.core.hazard import factor
from dsched.scheduler.core.hope import Hope
from dsched.scheduler.core.job import Need, Spec
from dsched.scheduler.core.market import Market, Offer, Pool, Quote
from dsched.scheduler.core.placement import Policy, Promise, Question
from dsched.scheduler.core.plan import Plan, holds_work, plan
from dsched.scheduler.core.report import Verdict, Why, to_wire
from dsched.scheduler.core.snapshot import Job, PoolMemory, queue_class
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import HOUR, MINUTE, Charge, Instant, MicroUsd, MicroUsdPerHour, Millis, Moment

T = TypeVar("T")
NOW = Moment(wall=Instant(HOUR), market=Instant(1_000 * HOUR))
POLICIES = st.builds(
    Policy,
    reuse_premium=st.sampled_from([1.0, 1.25, 100.0]),
    restart=st.sampled_from([Millis(0), MINUTE]),
    placements_max=st.sampled_from([1, 2, 100]),
)
SHAPES = [catalog.load().listings[name].shape for name in ("p5.48xlarge", "p4d.24xlarge", "g6.xlarge", "c7i.large")]
PRICES = st.sampled_from([1, 2, 5, 20]).map(lambda usd: MicroUsdPerHour(usd * 1_000_000))  # few, so that ties happen


@st.composite
def offers(draw: st.DrawFn) -> Offer:
    shape = draw(st.sampled_from(SHAPES))
    pool = Pool("aws", "r", draw(st.sampled_from("abc")), shape.name, draw(st.sampled_from(Market)))
    quote = Quote(price=draw(PRICES), at=Instant(NOW.market - draw(st.sampled_from([0, HOUR, 3 * HOUR]))), source="t")
    return Offer(
        pool=pool,
        shape=shape,
        quote=draw(st.sampled_from([quote, quote, quote, None])),
        on_demand=draw(st.none() | PRICES),
        free=draw(st.none() | st.integers(-1, 4)),
        hazard=draw(st.none() | st.floats(0, 1e4)),
        notice=draw(st.sampled_from([Millis(0), MINUTE])),
        boot=draw(st.sampled_from([Millis(0), MINUTE])),
    )


NEEDS = st.builds(
    Need,
    accelerators=st.sampled_from([(), ("H100",), ("A100", "H100"), ("B200",)]),
    gpus_min=st.sampled_from([1, 8, 16]),
    gpus_max=st.sampled_from([16, 24, 64]),
    gpu_memory_gib=st.sampled_from([0, 0, 80]),
    nodes_max=st.sampled_from([None, None, 1, 2]),
    fp8=st.booleans(),
    fp8_required=st.sampled_from([False, False, True]),
    markets=st.sampled_from([tuple(Market), (Market.SPOT,)]),
    places=st.sampled_from([(), (), ("aws/a", "aws/b")]),
    price_max=st.none() | st.integers(1, 60).map(lambda usd: MicroUsdPerHour(usd * 1_000_000)),
    cpu_only=st.sampled_from([False, False, False, True]),
)


@st.composite
def jobs(draw: st.DrawFn, pools: list[str]) -> Job:
    hours = st.integers(0, 100).map(lambda count: Millis(count * HOUR))
    spec = Spec(
        name="p",
        run="true",
        need=draw(NEEDS),
        duration=draw(st.none() | hours),
        deadline=draw(st.none() | hours.map(lambda ahead: Instant(NOW.market + ahead))),
        cost_max=draw(st.none() | st.integers(0, 500).map(lambda usd: MicroUsd(usd * 1_000_000))),
        priority=draw(st.integers(0, 2)),
        budget=draw(st.sampled_from(["rich", "poor"])),
    )
    return Job(
        id="",
        key="",
        spec=spec,
        state=draw(st.sampled_from([JobState.QUEUED, JobState.QUEUED, JobState.DRAINING])),
        submitted=Moment(wall=Instant(0), market=Instant(draw(st.integers(0, 3)))),
        avoid=tuple(draw(st.sets(st.sampled_from(pools), max_size=2))) if pools else (),
        started=draw(st.sampled_from([None, Instant(0)])),
        checkpoint_step=draw(st.integers(0, 1)),
    )


@st.composite
def questions(draw: st.DrawFn) -> Question:
    market = {offer.pool.id: offer for offer in draw(st.lists(offers(), max_size=8))}
    pools = sorted(market)
    some = draw(st.lists(jobs(pools), min_size=1, max_size=4))
    copies = draw(st.integers(1, 2))  # equal jobs take the short way
    idle, memory, promised = {}, {}, {}
    for pool in pools:
        idle[pool] = tuple(f"{pool}.{n}" for n in range(draw(st.sampled_from([0, 0, 1, 3]))))
        for node in idle[pool]:
            name, usd = draw(st.sampled_from(["rich", "poor", "poor"])), draw(st.integers(0, 20))
            promised[node] = Promise(name, Charge(usd * 1_000_000 * HOUR))
        until = Instant(NOW.market + draw(st.sampled_from([-1, 0, HOUR])))
        memory[pool] = PoolMemory(pool=pool, cool_until=until, interruptions=draw(st.integers(0, 5)), exposure=HOUR)
    return Question(
        jobs=tuple(replace(job, id=f"j{n:02}") for n, job in enumerate(some * copies)),
        offers=market,
        idle=idle,
        pools=memory,
        room={"rich": None, "poor": Charge(draw(st.integers(-5, 200)) * 1_000_000 * HOUR)},
        promised=promised,
        scale=draw(st.sampled_from([1.0, 60.0])),
    )


def solve(question: Question, policy: Policy) -> Plan:
    return plan(question, policy, now=NOW, rng=random.Random(0))


@settings(max_examples=300, deadline=None)
@given(questions(), POLICIES)
def test_the_checker_finds_nothing_in_any_plan(question: Question, policy: Policy) -> None:
    assert check(question, solve(question, policy)) == ()


@settings(max_examples=300, deadline=None)
@given(questions(), POLICIES)
def test_what_can_be_placed_is_never_given_up(question: Question, policy: Policy) -> None:
    hope = Hope(question, NOW, policy.nodes_max)
    kinds = {job.id: queue_class(job) for job in question.jobs}
    for placement in solve(question, policy).placements:
        assert hope.left(kinds[placement.job])


@settings(deadline=None)
@given(questions(), POLICIES)
def test_every_offer_is_chosen_or_explained_exactly_once(question: Question, policy: Policy) -> None:
    for report in solve(question, policy).reports.values():
        assert Counter(line.offer for line in report.lines) == Counter(iter(question.offers))
        assert sum(line.code is None for line in report.lines) == (report.chosen is not None)
        refused = [line for line in report.lines if line.verdict is Verdict.REFUSED]
        assert sum(report.refused.values()) == len(refused)
        assert all(line.words for line in refused)


@settings(deadline=None)
@given(questions(), POLICIES, st.randoms(use_true_random=False))
def test_the_order_of_the_question_does_not_matter(question: Question, policy: Policy, dice: random.Random) -> None:
    def shuffled(of: Mapping[str, T]) -> dict[str, T]:
        return {key: of[key] for key in dice.sample(sorted(of), len(of))}

    other = replace(
        question,
        jobs=tuple(dice.sample(question.jobs, len(question.jobs))),
        offers=shuffled(question.offers),
        idle={pool: tuple(reversed(nodes)) for pool, nodes in shuffled(question.idle).items()},
        pools=shuffled(question.pools),
    )
    assert solve(question, policy) == solve(other, policy)


@settings(deadline=None)
@given(questions(), POLICIES)
def test_the_lines_stand_in_the_order_of_cost(question: Question, policy: Policy) -> None:
    for report in solve(question, policy).reports.values():
        possible = [line for line in report.lines if line.verdict is Verdict.POSSIBLE]
        scores = [line.value.score for line in possible if line.value]
        assert scores == sorted(scores)
        chosen = report.chosen
        for line in possible:
            assert chosen is not None
            assert chosen.value is not None
            assert line.value is not None
            assert (line.code is Why.NEEDS_BUYING) == (line.value.score < chosen.value.score)


@settings(deadline=None)
@given(questions(), POLICIES)
def test_one_job_alone_is_placed_whenever_an_offer_has_nothing_against_it(question: Question, policy: Policy) -> None:
    for job in question.jobs:
        alone = solve(replace(question, jobs=(job,)), policy)
        lines = alone.reports[job.id].lines
        assert len(alone.placements) == any(line.verdict is not Verdict.REFUSED for line in lines)


@settings(deadline=None)
@given(questions(), POLICIES)
def test_new_work_is_never_begun_that_cannot_be_expected_to_make_its_deadline(
    question: Question, policy: Policy
) -> None:
    begun = {job.id: holds_work(job) for job in question.jobs}
    deadlines = {job.id: job.spec.deadline for job in question.jobs}
    answer = solve(question, policy)
    for placed in answer.placements:
        chosen, deadline = answer.reports[placed.job].chosen, deadlines[placed.job]
        assert chosen is not None
        assert chosen.value is not None
        if deadline is not None and chosen.value.finish is not None and not begun[placed.job]:
            assert chosen.value.finish <= deadline


@settings(deadline=None)
@given(questions(), POLICIES)
def test_every_report_can_cross_the_wire(question: Question, policy: Policy) -> None:
    for report in solve(question, policy).reports.values():
        wire = to_wire(report)
        assert len(wire["lines"]) == len(question.offers)
        assert all(line["why"] for line in wire["lines"] if line["verdict"] != "chosen")


@given(
    hazard=st.floats(0, 1e9),
    share=st.floats(0, 1),
    restart=st.integers(0, 10**12),
    write=st.integers(1, 10**10),
    every=st.integers(1, 10**12),
)
def test_goodput_is_a_share(hazard: float, share: float, restart: int, write: int, every: int) -> None:
    got = goodput(
        hazard=hazard, unwarned=hazard * share, restart=Millis(restart), write=Millis(write), every=Millis(every)
    )
    assert LEAST <= got <= 1
    worse = goodput(
        hazard=hazard * 2, unwarned=hazard * share, restart=Millis(restart), write=Millis(write), every=Millis(every)
    )
    assert worse <= got


@given(st.floats(0.1, 10), st.integers(0, 1_000), st.floats(0, 1e6))
def test_more_interruptions_never_make_a_pool_look_calmer(weight: float, events: int, expected: float) -> None:
    assert factor(events + 1, expected, weight) > factor(events, expected, weight)
