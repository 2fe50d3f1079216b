"""A pass over few jobs, one after the other, each with its reasons at once."""

from __future__ import annotations

from dsched.scheduler.core.gang import placement
from dsched.scheduler.core.placement import Placement, Policy, Question
from dsched.scheduler.core.report import Report
from dsched.scheduler.core.shortlist import Field, Judged, Shortlist, Stock
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.units import Moment
from dsched.scheduler.core.work import demand_of, holds_work, money_left, work_left


class Queue:
    """What is left of the stock, and what was learned about each class of jobs."""

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
            field = self._fields[key] = field_of(job, self.question, self.policy, self.now)
        if field.report is not None:
            self.reports[job.id] = field.report
            return
        exhausted = field.exhausted(self.stock)
        shortlist = self._shortlist(key, field, job)
        if shortlist.report is not None:
            self.reports[job.id] = shortlist.report
        else:
            self._choose(job, field, shortlist, exhausted=exhausted)

    def shortlist(self, job: Job) -> Shortlist:
        """How the job sees what is left."""
        spec = job.spec
        key = (spec.need, job.places, spec.checkpoint.every, spec.drain)
        if key not in self._fields:
            self._fields[key] = field_of(job, self.question, self.policy, self.now)
        return self._shortlist(key, self._fields[key], job)

    def _choose(self, job: Job, field: Field, shortlist: Shortlist, *, exhausted: bool) -> None:
        chosen = shortlist.choose(self.stock, late=holds_work(job))
        report = self.reports[job.id] = shortlist.explain(chosen, self.now)
        if chosen is not None:
            placement = self.placement(job, chosen)
            self.stock.take(placement)
            self.placements.append(placement)
        elif exhausted:
            field.report = report
        else:
            shortlist.report = report

    def _shortlist(self, key: tuple[object, ...], field: Field, job: Job) -> Shortlist:
        """The list that this job shares with its equals."""
        remaining, left = work_left(job, self.question), money_left(job)
        numbers = (key, remaining, job.spec.deadline, left, job.avoid, job.spec.budget, holds_work(job))
        if (known := self._shortlists.get(numbers)) is not None:
            return known
        made = shortlist_of(job, field, self.stock)
        self._shortlists[numbers] = made
        return made

    def placement(self, job: Job, chosen: Judged) -> Placement:
        line, value = chosen.line, chosen.line.value
        assert value is not None, "only valued lines are chosen"
        idle = self.stock.idle.get(line.offer, ())[: chosen.idle]
        return placement(job, line.pool, value, idle, self.question.scale)


def field_of(job: Job, question: Question, policy: Policy, now: Moment) -> Field:
    need = job.spec.need
    return Field(need, job.places or need.places, question, policy, now)


def shortlist_of(job: Job, field: Field, stock: Stock) -> Shortlist:
    demand = demand_of(job, field.reference, field.question, field.policy, field.now)
    return Shortlist(field, demand, stock, avoid=job.avoid, budget=job.spec.budget, left=money_left(job))
