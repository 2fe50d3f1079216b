"""The reasons of a crowded pass, written when somebody asks: for ten thousand jobs nobody reads them all.

What a job found depends on what those before it had taken, so its report is made from the stock as it was when its
turn came: the first placements of the pass taken from the question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from dsched.scheduler.core.fleetplan.queue import field_of, shortlist_of
from dsched.scheduler.core.placement import Placement, Policy, Question
from dsched.scheduler.core.report import Report
from dsched.scheduler.core.shortlist import Field, Stock
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.units import Moment
from dsched.scheduler.core.work import holds_work


class Told(Mapping[str, Report]):
    """Job id -> its report. Jobs that share a reason share the report."""

    def __init__(
        self,
        question: Question,
        policy: Policy,
        now: Moment,
        *,
        placements: Sequence[Placement],
        seen: Mapping[str, int],
        same: Mapping[str, str],
        brief: Callable[[Job, int], Report] | None = None,
    ) -> None:
        """`brief`: writes the report of a job that came when so many had been placed, where it is not to be long."""
        self._brief = brief
        self._question, self._policy, self._now = question, policy, now
        self._placements, self._seen, self._same = placements, seen, same
        self._jobs: dict[str, Job] = {}
        self._made: dict[str, Report] = {}
        self._fields: dict[tuple[object, ...], Field] = {}
        self._stock: Stock | None = None
        self._taken = 0  # of the placements, from the stock

    def __getitem__(self, id: str) -> Report:
        first = self._same.get(id, id)
        if first not in self._made:
            self._made[first] = self._write(first, self._seen[first])
        return self._made[first]

    def __iter__(self) -> Iterator[str]:
        return iter(self._seen)

    def __len__(self) -> int:
        return len(self._seen)

    def _write(self, id: str, before: int) -> Report:
        if not self._jobs:
            self._jobs = {job.id: job for job in self._question.jobs}
        job = self._jobs[id]
        if self._brief is not None:
            return self._brief(job, before)
        field = self._field(job)
        stock = self._stock_at(before)
        shortlist = shortlist_of(job, field, stock)
        placed = self._placements[before] if before < len(self._placements) else None
        if placed is None or placed.job != id:
            chosen = shortlist.choose(stock, late=holds_work(job))
            assert chosen is None, f"{id} was refused, and {chosen} fits"
        else:
            chosen = shortlist.at(placed.pool.id)
        return shortlist.explain(chosen, self._now)

    def _field(self, job: Job) -> Field:
        spec = job.spec
        key = (spec.need, job.places, spec.checkpoint.every, spec.drain)
        if key not in self._fields:
            self._fields[key] = field_of(job, self._question, self._policy, self._now)
        return self._fields[key]

    def _stock_at(self, before: int) -> Stock:
        if self._stock is None or before < self._taken:
            self._stock, self._taken = Stock.of(self._question), 0
        for placement in self._placements[self._taken : before]:
            self._stock.take(placement)
        self._taken = before
        return self._stock
