"""Decide where the waiting jobs run: `plan` takes a question and answers with placements and reasons.

Jobs come in the order of priority, then (within a priority) those whose nodes are being taken away, then by deadline
and age. Each takes the feasible offer with the least expected cost per useful hour, and what it takes is gone for the
jobs behind it: nodes, capacity, money. A gang is placed whole or not at all. Nothing here waits, asks or remembers: the
same question gives the same plan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import NamedTuple

from dsched.scheduler.core import rank
from dsched.scheduler.core.job import Spec
from dsched.scheduler.core.placement import Dice, Placement, Policy, Question
from dsched.scheduler.core.report import Report
from dsched.scheduler.core.shortlist import Field, Judged, Shortlist, Stock
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import Charge, Instant, MicroUsd, MicroUsdPerHour, Millis, Moment, to_charge


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A proposal. Nothing happens before it is committed as intents."""

    id: str  # a digest of the choices and of when they were made
    at: Moment
    policy: Policy
    placements: tuple[Placement, ...]  # in the order of the queue
    reports: Mapping[str, Report]  # job id -> why; jobs that share a reason share the report
    more: bool  # placements_max was reached and jobs are left: plan again


class Nearest(NamedTuple):
    """The earliest finish that can be had; compared by finish, then by cost."""

    finish: Instant  # market
    expected: MicroUsd
    offer: str  # pool id
    nodes: int
    price: MicroUsdPerHour  # the whole gang


def plan(question: Question, policy: Policy, *, now: Moment, rng: Dice) -> Plan:
    """Place what can be placed. `rng` is the core's convention: this planner draws nothing, ties go by name."""
    del rng
    work = _Pass(question, policy, now)
    queue = sorted(question.jobs, key=_turn)
    for seen, job in enumerate(queue):
        if len(work.placements) >= policy.placements_max:
            return work.answer(more=seen < len(queue))
        work.place(job)
    return work.answer(more=False)


class _Pass:
    """One pass over the queue: what is left of the stock, and what was learned about each class of jobs."""

    def __init__(self, question: Question, policy: Policy, now: Moment) -> None:
        self.question, self.policy, self.now = question, policy, now
        self.stock = Stock.of(question)
        self.placements: list[Placement] = []
        self.reports: dict[str, Report] = {}
        self._fields: dict[tuple[object, ...], Field] = {}
        self._shortlists: dict[tuple[object, ...], Shortlist] = {}

    def place(self, job: Job) -> None:
        """Decide for one job; for the rest of a class that cannot be placed this is two look-ups."""
        spec = job.spec
        key = (spec.need, job.places, spec.checkpoint.every, spec.drain)
        field = self._fields.get(key)
        if field is None:
            field = self._fields[key] = self._field(job)
        if field.report is not None:
            self.reports[job.id] = field.report
            return
        exhausted = field.exhausted(self.stock)
        shortlist = self._shortlist(key, field, job)
        if shortlist.report is not None:
            self.reports[job.id] = shortlist.report
        else:
            self._choose(job, field, shortlist, exhausted=exhausted)

    def answer(self, *, more: bool) -> Plan:
        choices = [(p.job, p.generation, p.pool.id, p.nodes, p.reuse, p.price) for p in self.placements]
        return Plan(
            id=_digest(self.now.wall, self.now.market, self.policy, choices, len(self.reports), more),
            at=self.now,
            policy=self.policy,
            placements=tuple(self.placements),
            reports=self.reports,
            more=more,
        )

    def _choose(self, job: Job, field: Field, shortlist: Shortlist, *, exhausted: bool) -> None:
        chosen = shortlist.choose(self.stock, late=holds_work(job))
        report = self.reports[job.id] = shortlist.explain(chosen, self.now)
        if chosen is not None:
            placement = self._placement(job, chosen, report)
            self.stock.take(placement)
            self.placements.append(placement)
        elif exhausted:
            field.report = report
        else:
            shortlist.report = report

    def _field(self, job: Job) -> Field:
        need = job.spec.need
        return Field(need, job.places or need.places, self.question, self.policy, self.now)

    def _shortlist(self, key: tuple[object, ...], field: Field, job: Job) -> Shortlist:
        """The list that this job shares with its equals."""
        remaining, left = work_left(job, self.question), _money_left(job)
        numbers = (key, remaining, job.spec.deadline, left, job.avoid, job.spec.budget, holds_work(job))
        if (known := self._shortlists.get(numbers)) is not None:
            return known
        demand = demand_of(job, field.reference, self.question, self.policy, self.now)
        made = Shortlist(field, demand, self.stock, avoid=job.avoid, budget=job.spec.budget, left=left)
        self._shortlists[numbers] = made
        return made

    def _placement(self, job: Job, chosen: Judged, report: Report) -> Placement:
        line, value = chosen.line, chosen.line.value
        assert value is not None, "only valued lines are chosen"
        reuse = tuple(self.stock.idle.get(line.offer, ())[: chosen.idle])
        return Placement(
            job=job.id,
            generation=job.generation,
            pool=line.pool,
            nodes=value.nodes,
            reuse=reuse,
            buy=value.nodes - len(reuse),
            gpus=value.gpus,
            world_size=value.nodes * job.spec.ranks_per_node,
            price=value.price,
            price_max=value.ceiling,
            budget=job.spec.budget,
            reserve=value.reserve,
            checkpoint_every=Millis(max(1, round(value.every / self.question.scale))),
            report=report,
        )


def feasible_deadline(question: Question, job: Job, policy: Policy, now: Moment) -> Nearest | None:
    """The nearest deadline that could be promised: the earliest expected finish on any offer that suits the spec.

    What passes by itself is overlooked (a sold-out pool counts with its smallest gang, a cool-down not at all), so a
    deadline before this one cannot be met even by waiting for capacity. None: the work is not known, or nothing suits.
    """
    need, stock = job.spec.need, Stock.of(question)
    field = Field(need, job.places or need.places, question, policy, now)
    demand = replace(demand_of(job, field.reference, question, policy, now), deadline=now.market)  # as fast as can be
    if demand.remaining is None:
        return None
    found = []
    for id, entry in field.entries.items():
        free = stock.free[id]
        had = entry.sizes[-1] if free is None else stock.idle_in(id) + free
        sizes = range(entry.sizes[0], max(entry.sizes[0], min(entry.sizes[-1], had)) + 1)
        value = rank.best_size(
            entry.offer, entry.price, sizes, idle=stock.idle_in(id), node_hazard=entry.node_hazard, demand=demand
        )
        if value.finish is not None and value.expected is not None:
            found.append(Nearest(value.finish, value.expected, id, value.nodes, value.price))
    return min(found, default=None)


def demand_of(job: Job, reference: rank.Reference, question: Question, policy: Policy, now: Moment) -> rank.Demand:
    spec: Spec = job.spec
    return rank.Demand(
        need=spec.need,
        reference=reference,
        remaining=work_left(job, question),
        deadline=spec.deadline,
        every=spec.checkpoint.every,
        drain=spec.drain,
        now=now.market,
        question=question,
        policy=policy,
    )


def work_left(job: Job, question: Question) -> float | None:
    """Reference hours left, or None where nobody knows."""
    told = question.remaining.get(job.id)
    hours = rank.remaining_hours(job) if told is None else told
    return max(0.0, hours) if hours is not None and math.isfinite(hours) else None


def holds_work(job: Job) -> bool:
    """Whether a missed deadline would throw work away: then late is better than never."""
    return job.started is not None or job.checkpoint_step > 0


def _turn(job: Job) -> tuple[int, bool, float, int, str]:
    deadline = math.inf if job.spec.deadline is None else job.spec.deadline
    return -job.spec.priority, job.state is not JobState.DRAINING, deadline, job.submitted.market, job.id


def _money_left(job: Job) -> Charge | None:
    return None if job.spec.cost_max is None else Charge(to_charge(job.spec.cost_max) - job.spent)


def _digest(*parts: object) -> str:
    return blake2b(repr(parts).encode(), digest_size=6).hexdigest()
