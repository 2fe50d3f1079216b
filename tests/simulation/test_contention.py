"""A thousand jobs that compete for a market are planned nearly as cheaply as can be."""

from __future__ import annotations

import random

import pytest

from bench import contention
from dsched.scheduler.core.placement import Placement, Policy, Question
from dsched.scheduler.core.plan import plan

JOBS, OFFERS = 1_000, 2_000
POLICY = Policy(placements_max=JOBS)


@pytest.fixture(scope="module")
def question() -> Question:
    return Question(jobs=contention.jobs(JOBS), offers=contention.market(OFFERS))


@pytest.fixture(scope="module")
def judge(question: Question) -> contention.Contest:
    return contention.Contest(question, POLICY)


@pytest.fixture(scope="module")
def placed(question: Question) -> tuple[Placement, ...]:
    return plan(question, POLICY, now=contention.NOW, rng=random.Random(0)).placements


def test_no_plan_could_be_two_percent_cheaper(judge: contention.Contest, placed: tuple[Placement, ...]) -> None:
    assert 1.0 <= judge.cost(placed) / judge.bound(rounds=100) < 1.02


def test_first_come_first_served_costs_a_quarter_more(
    question: Question, judge: contention.Contest, placed: tuple[Placement, ...]
) -> None:
    assert judge.cost(contention.first_come(question, POLICY)) > 1.25 * judge.cost(placed)
