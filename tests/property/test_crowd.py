"""A crowded pass decides over columns what the row by row planner would decide at the same point."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsched.scheduler.core import plan as planner
from dsched.scheduler.core import rank
from dsched.scheduler.core.check import check
from dsched.scheduler.core.fleetplan.crowd import Crowd
from dsched.scheduler.core.fleetplan.lanes import finish
from dsched.scheduler.core.fleetplan.queue import field_of
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.plan import Plan, holds_work, plan
from dsched.scheduler.core.report import Line, Verdict, Why
from dsched.scheduler.core.units import HOUR
from dsched.scheduler.core.work import demand_of
from tests.property.test_planner import NOW, POLICIES, questions

CLOSE = 1e-6  # of a cost: a report's micro-dollars are rounded, the columns' are not


@contextmanager
def crowded() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "CROWD", -1)
        yield


def solve(question: Question, policy: Policy) -> Plan:
    with crowded():
        return plan(question, policy, now=NOW, rng=random.Random(0))


def score(line: Line) -> float:
    assert line.value is not None
    return line.value.score


@settings(max_examples=300, deadline=None)
@given(questions(), POLICIES)
def test_the_checker_finds_nothing_in_a_crowded_plan(question: Question, policy: Policy) -> None:
    assert check(question, solve(question, policy)) == ()


@settings(max_examples=300, deadline=None)
@given(questions(), POLICIES)
def test_each_job_gets_the_offer_that_the_row_by_row_planner_calls_best(question: Question, policy: Policy) -> None:
    answer = solve(question, policy)
    begun = {job.id: holds_work(job) for job in question.jobs}
    for placed in answer.placements:
        report = answer.reports[placed.job]
        chosen = report.chosen
        assert chosen is not None
        assert chosen.value is not None
        assert (chosen.offer, chosen.value.nodes) == (placed.pool.id, placed.nodes)
        assert (chosen.value.ceiling, chosen.value.reserve) == (placed.price_max, placed.reserve)
        possible = [line for line in report.lines if line.verdict is Verdict.POSSIBLE]
        least = min([score(chosen), *map(score, possible)])
        if score(chosen) > least * (1 + CLOSE) + 4:
            assert not placed.buy
            assert score(chosen) <= least * policy.reuse_premium * (1 + CLOSE) + 4
        late = [line for line in report.lines if line.code is Why.LATE]
        assert begun[placed.job] or all(line.offer != chosen.offer for line in late)


@settings(max_examples=300, deadline=None)
@given(questions(), st.builds(Policy))
def test_one_job_alone_gets_the_same_from_both(question: Question, policy: Policy) -> None:
    for job in question.jobs:
        alone = replace(question, jobs=(job,))
        mine = solve(alone, policy).placements
        theirs = plan(alone, policy, now=NOW, rng=random.Random(0)).placements
        assert [(p.pool.id, p.nodes, p.reuse, p.price_max) for p in mine] == [
            (p.pool.id, p.nodes, p.reuse, p.price_max) for p in theirs
        ]


@settings(max_examples=200, deadline=None)
@given(questions(), POLICIES)
def test_the_columns_count_as_the_rows_do(question: Question, policy: Policy) -> None:
    """Same offers, same sizes, same dollars, same ceilings and intervals: rank.value is the law."""
    crowd = Crowd(question, policy, NOW)
    for job in question.jobs:
        asked, field = crowd.asked(job), field_of(job, question, policy, NOW)
        lanes, demand = asked.group.lanes, demand_of(job, field.reference, question, policy, NOW)
        assert [crowd.columns.ids[row] for row in lanes.rows] == list(field.entries)
        for place, entry in enumerate(field.entries.values()):
            nodes = int(lanes.terms.nodes[place])
            value = rank.value(
                entry.offer, entry.price, nodes, node_hazard=entry.node_hazard, boots=True, demand=demand
            )
            assert (nodes, int(lanes.most[place])) == (entry.sizes[0], entry.sizes[-1])
            assert lanes.terms.rate[place] == pytest.approx(value.per_useful_hour, rel=CLOSE)
            assert lanes.interval(int(lanes.rows[place]), nodes) == value.every
            assert (asked.group.ceiling[place], asked.group.reserve[place]) == (value.ceiling, value.reserve)
            if asked.work is not None:
                terms = lanes.terms
                cost = terms.fixed[place] + terms.carried[place] + terms.rate[place] * asked.work
                assert cost == pytest.approx(value.score, rel=CLOSE, abs=4)
                booted = finish(lanes.terms, asked.work, NOW.market, np.array(True))
                assert booted[place] == pytest.approx(value.finish, rel=0, abs=2 + CLOSE * (value.hours or 0) * HOUR)
