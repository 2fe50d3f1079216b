"""Builders for the planner's tests: say only what matters, the rest is an ordinary job in a calm market."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from dsched.providers import catalog
from dsched.scheduler.core.job import Need, Spec
from dsched.scheduler.core.market import Market, Offer, Pool, Quote
from dsched.scheduler.core.placement import Placement, Policy, Question
from dsched.scheduler.core.plan import Plan, plan
from dsched.scheduler.core.report import Line, Report
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import HOUR, Instant, Millis, Moment, price

NOW = Moment(wall=Instant(5 * HOUR), market=Instant(1_000 * HOUR))


def hours(count: float) -> Millis:
    return Millis(round(count * HOUR))


def later(count: float) -> Instant:
    """Market time, `count` hours from now."""
    return Instant(NOW.market + hours(count))


def offer(
    name: str,
    dollars: float | None,
    *,
    on_demand: float | None = None,
    free: int | None = 8,
    hazard: float | None = None,
    age: float = 0.0,
    notice: Millis = Millis(0),
    boot: Millis = Millis(0),
    region: str = "us-east-1",
) -> Offer:
    """`name` is "zone/shape/market"; the provider is aws."""
    zone, machine, market = name.split("/")
    shape = catalog.load().shape(machine)
    assert shape is not None, f"{machine} is not in the catalog"
    quote = None if dollars is None else Quote(price=price(dollars), at=Instant(NOW.market - hours(age)), source="test")
    return Offer(
        pool=Pool("aws", region, zone, machine, Market(market)),
        shape=shape,
        quote=quote,
        on_demand=None if on_demand is None else price(on_demand),
        free=free,
        hazard=hazard,
        notice=notice,
        boot=boot,
    )


def job(name: str = "j1", *, need: Need | None = None, **fields: Any) -> Job:
    """Fields of Job and of Spec alike."""
    of_job = {key: fields.pop(key) for key in list(fields) if key in Job.__dataclass_fields__}
    spec = Spec(name=name, run="true", need=need or Need(accelerators=("H100",), gpus_min=8, gpus_max=8), **fields)
    ordinary: dict[str, Any] = {"state": JobState.QUEUED, "submitted": NOW}
    return Job(id=name, key=name, spec=spec, **{**ordinary, **of_job})


def ask(jobs: Job | Iterable[Job], *offers: Offer, **fields: Any) -> Question:
    queue = (jobs,) if isinstance(jobs, Job) else tuple(jobs)
    return Question(jobs=queue, offers={o.pool.id: o for o in offers}, **fields)


def solve(question: Question, policy: Policy | None = None) -> Plan:
    return plan(question, policy or Policy(), now=NOW, rng=random.Random(0))


def placed(question: Question, policy: Policy | None = None, *, name: str = "j1") -> Placement | None:
    return next((p for p in solve(question, policy).placements if p.job == name), None)


def reported(question: Question, policy: Policy | None = None, *, name: str = "j1") -> Report:
    return solve(question, policy).reports[name]


def where(question: Question, policy: Policy | None = None, *, name: str = "j1") -> str | None:
    """The chosen zone/shape/market."""
    found = placed(question, policy, name=name)
    return None if found is None else found.pool.id.removeprefix("aws/")


def line(report: Report, zone: str) -> Line:
    return next(line for line in report.lines if line.pool.zone == zone)
