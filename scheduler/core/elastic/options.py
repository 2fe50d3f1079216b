"""Every way to run one job now: one option per pool, feasible gang size and parallel layout.

    options(job, question, policy, now) -> tuple[Choice, ...]      what rank, report and the growth of gangs work with
    view.option(choice) -> deadline.view.Option                    the same for a deadline policy (elastic/view.py)

`Choice.id` is "{pool id}*{nodes}": unique among the options of a job, stable over time, and read back by `parse`. The
layout is no part of it: of the layouts that a size allows only the fastest that fits in memory is an option. An option
is listed whether its capacity can be had now or not (`up`), but never when the job's own limits forbid it (market,
region, hardware, price, spot share): limits are hard, a drought passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dsched.scheduler.core import plan, rank
from dsched.scheduler.core.market import Pool
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.report import Value
from dsched.scheduler.core.shortlist import Entry, Field, Stock
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.units import HOUR, MICRO, Moment

SIZES_MAX = 12  # gang sizes of one pool: a wide range is thinned out to about equal ratios between neighbours


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One option with its terms. `value` has price, goodput, layout and the expected cost in the core's units."""

    id: str
    pool: Pool
    nodes: int
    value: Value
    speed: float  # reference hours of work done in an hour: before goodput, interruptions are the policy's business
    hazard: float  # interruptions of the gang per market hour
    changeover: float  # s of market time from the launch to the first new step, p90 of what was measured or believed
    egress: float  # $ to bring the job's checkpoint there
    up: bool | None  # the gang can be had now: told by the provider or idle; False also while the pool cools down

    @property
    def price(self) -> float:
        """$/h of the gang."""
        return self.value.price / MICRO


def options(job: Job, question: Question, policy: Policy, now: Moment) -> tuple[Choice, ...]:
    """All options of `job`, by pool id and size. Pools that could never serve it are left out."""
    need, stock = job.spec.need, Stock.of(question)
    field = Field(need, job.places or need.places, question, policy, now)
    demand = plan.demand_of(job, field.reference, question, policy, now)
    return tuple(choice for entry in field.entries.values() for choice in _sizes(entry, stock, demand))


def parse(id: str) -> tuple[str, int]:
    """The pool's id and the number of nodes of an option."""
    pool, _, nodes = id.rpartition("*")
    return pool, int(nodes)


def _sizes(entry: Entry, stock: Stock, demand: rank.Demand) -> Iterator[Choice]:
    for nodes in thinned(entry.sizes):
        yield _choice(entry, nodes, stock, demand)


def _choice(entry: Entry, nodes: int, stock: Stock, demand: rank.Demand) -> Choice:
    pool, idle = entry.offer.pool, stock.idle_in(entry.offer.pool.id)
    value = rank.value(
        entry.offer, entry.price, nodes, node_hazard=entry.node_hazard, boots=nodes > idle, demand=demand
    )
    return Choice(
        id=f"{pool.id}*{nodes}",
        pool=pool,
        nodes=nodes,
        value=value,
        speed=nodes * rank.speed(entry.offer.shape, demand.need) / demand.reference.speed,
        hazard=value.hazard,
        changeover=demand.question.market(demand.policy.restart) / HOUR * 3600,
        egress=0.0,
        up=_up(entry, nodes, idle, stock.free[pool.id]),
    )


def _up(entry: Entry, nodes: int, idle: int, free: int | None) -> bool | None:
    if nodes <= idle:
        return True
    if entry.cooling is not None:
        return False
    return None if free is None else nodes <= idle + free


def thinned(sizes: range) -> list[int]:
    """At most SIZES_MAX of them with about equal ratios; the smallest and the largest always."""
    if len(sizes) <= SIZES_MAX:
        return list(sizes)
    ratio = (sizes[-1] / sizes[0]) ** (1 / (SIZES_MAX - 1))
    return sorted({round(sizes[0] * ratio**step) for step in range(SIZES_MAX)})
