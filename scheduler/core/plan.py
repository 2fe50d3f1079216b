"""Decide where the waiting jobs run: `plan` takes a question and answers with placements and reasons.

Jobs come in the order of priority, then (within a priority) those whose nodes are being taken away, then by deadline
and age. Each takes the feasible offer with the least expected cost per useful hour, and what it takes is gone for the
jobs behind it: nodes, capacity, money. A gang is placed whole or not at all. Nothing here waits, asks or remembers: the
same question gives the same plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final, NamedTuple

from dsched.scheduler.core import rank
from dsched.scheduler.core.fleetplan.queue import Queue
from dsched.scheduler.core.fleetplan.slots import worths
from dsched.scheduler.core.fleetplan.told import Told
from dsched.scheduler.core.fleetplan.turn import turn
from dsched.scheduler.core.placement import LARGE, Dice, Placement, Policy, Question
from dsched.scheduler.core.report import Report
from dsched.scheduler.core.share import Line
from dsched.scheduler.core.shortlist import Field, Stock
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.units import Instant, MicroUsd, MicroUsdPerHour, Moment
from dsched.scheduler.core.work import demand_of as demand_of
from dsched.scheduler.core.work import holds_work as holds_work
from dsched.scheduler.core.work import work_left as work_left

CROWD: Final = 20_000  # jobs x offers above which columns are quicker than rows; either way the best offer is found


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


def plan(question: Question, policy: Policy, *, now: Moment, rng: Dice, whole: bool = False) -> Plan:
    """Place what can be placed. `rng` is the core's convention: this planner draws nothing, ties go by name.

    `whole`: tell of every offer, however large the market is; that takes 10 us for each of them.
    """
    del rng
    large = len(question.offers) > LARGE and not whole
    if large or len(question.jobs) * len(question.offers) > CROWD:
        return _crowded(question, policy, now, brief=large)
    work = Queue(question, policy, now)
    worth = worths(work, now)
    line = Line((turn(job, worth.get(job.id, 0.0)) for job in question.jobs), question.shares)
    for job in line:
        if len(work.placements) >= policy.placements_max:
            return _answer(work.placements, work.reports, policy, now, more=True)
        before = len(work.placements)
        work.place(job)
        for placed in work.placements[before:]:
            line.served(job.spec.user, placed.price)
    return _answer(work.placements, work.reports, policy, now, more=False)


def _crowded(question: Question, policy: Policy, now: Moment, *, brief: bool) -> Plan:
    from dsched.scheduler.core.fleetplan.brief import Briefs  # loads numpy, without which a daemon is there the sooner
    from dsched.scheduler.core.fleetplan.crowd import Crowd

    work = Crowd(question, policy, now)
    more = work.serve()
    placements = work.placements()
    write = Briefs(work).report if brief else None
    told = Told(question, policy, now, placements=placements, seen=work.seen, same=work.same, brief=write)
    return _answer(placements, told, policy, now, more=more)


def _answer(
    placements: Sequence[Placement], reports: Mapping[str, Report], policy: Policy, now: Moment, *, more: bool
) -> Plan:
    # column by column: one long list is written much faster than many short tuples
    choices = tuple([p[at] for p in placements] for at in _CHOICE), [p.pool.id for p in placements]
    return Plan(
        id=_digest(now.wall, now.market, policy, choices, len(reports), more),
        at=now,
        policy=policy,
        placements=tuple(placements),
        reports=reports,
        more=more,
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
        free = stock.buyable(id)
        had = entry.sizes[-1] if free is None else stock.idle_in(id) + free
        sizes = range(entry.sizes[0], max(entry.sizes[0], min(entry.sizes[-1], had)) + 1)
        value = rank.best_size(
            entry.offer, entry.price, sizes, idle=stock.idle_in(id), node_hazard=entry.node_hazard, demand=demand
        )
        if value.finish is not None and value.expected is not None:
            found.append(Nearest(value.finish, value.expected, id, value.nodes, value.price))
    return min(found, default=None)


_CHOICE: Final = [Placement._fields.index(name) for name in ("job", "generation", "nodes", "reuse", "price")]


def _digest(*parts: object) -> str:
    return blake2b(repr(parts).encode(), digest_size=6).hexdigest()
