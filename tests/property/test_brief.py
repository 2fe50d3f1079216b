"""A brief report counts what the long one tells, and tells the best of it in the same words."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings

from dsched.scheduler.core import plan as planner
from dsched.scheduler.core.check import check
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.plan import Plan, plan
from dsched.scheduler.core.report import Report, Verdict
from tests.property.test_planner import NOW, POLICIES, questions


def solve(question: Question, policy: Policy, *, large: int) -> Plan:
    """By columns; brief where there are more offers than `large`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "CROWD", -1)
        patch.setattr(planner, "LARGE", large)
        return plan(question, policy, now=NOW, rng=random.Random(0))


def possible(report: Report) -> int:
    return sum(line.verdict is not Verdict.REFUSED for line in report.lines)


@settings(max_examples=100, deadline=None)
@given(questions(), POLICIES)
def test_a_brief_report_counts_what_the_long_one_tells(question: Question, policy: Policy) -> None:
    long, brief = solve(question, policy, large=1_000), solve(question, policy, large=-1)
    assert brief.placements == long.placements
    assert check(question, brief) == ()
    for job in (job.id for job in question.jobs if job.id in long.reports):
        told, short = long.reports[job], brief.reports[job]
        assert short.kept is not None
        assert Counter(short.refused) == Counter(told.refused)
        assert (short.kept.offers, short.kept.possible) == (len(question.offers), possible(told))
        assert (short.id, short.summary) == (told.id, told.summary)
        whole = {line.offer: line for line in told.lines}
        assert all(line == whole[line.offer] for line in short.lines)
