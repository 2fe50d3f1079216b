"""The report of a decision under a deadline: every offer once, like any other plan's, with what the policy reckons."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from dsched.scheduler.core.deadline.view import Decision, Observation
from dsched.scheduler.core.elastic.options import Choice
from dsched.scheduler.core.fleetplan.queue import field_of
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.report import Line, Report, Verdict, Why, write
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.timely.look import Look
from dsched.scheduler.core.timely.words import chooses, expected, waits
from dsched.scheduler.core.units import Moment


def account(job: Job, seen: Look, decision: Decision, question: Question, policy: Policy, now: Moment) -> Report:
    """Why it goes there, or waits."""
    field = field_of(job, question, policy, now)
    chosen = seen.choices.get(decision.target or "")
    best = _best_of_each_pool(seen.choices.values(), decision, chosen)
    lines = [_line(choice, seen.observation, decision, question, chosen) for choice in best]
    ranked = [line for line in lines if line.verdict is not Verdict.REFUSED]
    refused = [line for line in lines if line.verdict is Verdict.REFUSED]
    reuse = min(len(question.idle.get(chosen.pool.id, ())), chosen.nodes) if chosen else 0
    told = write(
        at=now,
        policy=policy.name,
        need=job.spec.need,
        ranked=ranked,
        reuse=reuse,
        refused=[*refused, *field.refused],
    )
    return replace(told, summary=_summary(told, seen.observation, decision))


def _summary(told: Report, seen: Observation, decision: Decision) -> str:
    if decision.target is None:
        return waits(seen, decision)
    if told.chosen is None:
        return f"stays where it is: {chooses(seen, decision)}"
    alone = " there alone" if told.chosen.value is not None and told.chosen.value.expected is not None else ""
    return f"{told.summary}{alone}; {chooses(seen, decision)}"


def _best_of_each_pool(choices: Iterable[Choice], decision: Decision, chosen: Choice | None) -> list[Choice]:
    """One size per pool, the chosen one first, then by what the policy reckons, then by price."""
    best: dict[str, Choice] = {}
    for choice in sorted(choices, key=lambda c: (c is not chosen, *_reckoned(c, decision))):
        best.setdefault(choice.pool.id, choice)
    return list(best.values())


def _reckoned(choice: Choice, decision: Decision) -> tuple[float, float, str]:
    cost = decision.why.costs.get(choice.id, math.nan)
    return (cost if math.isfinite(cost) else math.inf), choice.value.score, choice.id


def _line(choice: Choice, seen: Observation, decision: Decision, question: Question, chosen: Choice | None) -> Line:
    reckoned = decision.why.costs.get(choice.id, math.nan)
    cost = expected(seen, reckoned)
    reckons = f"{decision.why.policy} reckons ${cost:,.2f} to the end" if cost is not None else ""
    if cost is None and not math.isnan(reckoned):
        reckons = "too likely to miss the deadline"
    offer = question.offers[choice.pool.id]
    verdict, words = Verdict.POSSIBLE, reckons
    code: Why | None = Why.DEARER
    if choice is chosen:
        verdict, code, words = Verdict.CHOSEN, None, ""
    elif choice.up is False:
        verdict, code, words = Verdict.REFUSED, Why.NO_CAPACITY, "cannot be had now"
    elif chosen is None:
        verdict, code, words = Verdict.REFUSED, Why.WAITING, reckons or "waiting is worth more"
    return Line(
        offer=choice.pool.id,
        pool=choice.pool,
        shape=offer.shape,
        hazard=choice.hazard,
        value=choice.value,
        verdict=verdict,
        code=code,
        words=words,
    )
