"""Every way to run one job now: one option per pool, feasible gang size and parallel layout.

    options(job, question, policy, now) -> tuple[Choice, ...]      what rank, report and the growth of gangs work with
    keep.with_own(question, state, job) -> Question                the job's own machines count as had (elastic/keep.py)

`Choice.id` is "{pool id}*{nodes}": unique among the options of a job, stable over time, and read back by `parse`. The
layout is no part of it: of the layouts that a size allows only the fastest that fits in memory is an option. An option
is listed whether its capacity can be had now or not (`up`), but never when the job's own limits forbid it (market,
region, hardware, price, spot share): limits are hard, a drought passes. Limits in money are left to the caller, who
knows what is spent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dsched.scheduler.core import changeover, feasible, rank
from dsched.scheduler.core.market import Pool
from dsched.scheduler.core.placement import Policy, Question, aside
from dsched.scheduler.core.report import Value
from dsched.scheduler.core.shortlist import Entry, Field, Stock
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.speed import fit
from dsched.scheduler.core.units import MICRO, SECOND, Millis, Moment
from dsched.scheduler.core.work import demand_of, money_left

SIZES_MAX: Final = 12  # gang sizes of one pool: a wide range is thinned out to about equal ratios between neighbours


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


def options(
    job: Job, question: Question, policy: Policy, now: Moment, *, within: str | None = None, open_only: bool = False
) -> tuple[Choice, ...]:
    """All options of `job`, by pool id and size. Pools that could never serve it are left out.

    `within`: of that pool alone. `open_only`: without those that are known not to be had now.
    """
    need, stock = job.spec.need, Stock.of(question)
    field = Field(need, job.places or need.places, question, policy, now)
    demand = demand_of(job, field.reference, question, policy, now)
    entries = (entry for id, entry in field.entries.items() if within in (None, id))
    return tuple(choice for entry in entries for choice in _sizes(entry, stock, demand, open_only=open_only))


def paid(job: Job, choice: Choice, question: Question, policy: Policy) -> bool:
    """Whether the job's own limit and its budget allow it, with the machines of ours that it would take."""
    ours, budget = question.idle.get(choice.pool.id, ())[: choice.nodes], job.spec.budget
    more = aside(question.promised, budget, choice.value.reserve, ours, choice.nodes)
    return not (
        feasible.over_cost_max(money_left(job), choice.value, question.market(policy.lease))
        or feasible.over_budget(budget, question.room.get(budget), more)
    )


def parse(id: str) -> tuple[str, int]:
    """The pool's id and the number of nodes of an option."""
    pool, _, nodes = id.rpartition("*")
    return pool, int(nodes)


def _sizes(entry: Entry, stock: Stock, demand: rank.Demand, *, open_only: bool) -> Iterator[Choice]:
    model, pool = demand.need.model, entry.offer.pool.id
    sizes = entry.sizes if model is None else fit.sizes(model, entry.offer.shape, entry.sizes)
    idle, free, left = stock.idle_in(pool), stock.buyable(pool), demand.luggage.spot_left
    for nodes in thinned(sizes):
        up = _up(entry, nodes, idle, free)
        if open_only and up is False:
            continue
        choice = _choice(entry, nodes, demand, boots=nodes > idle, up=up)
        if feasible.over_spot_share(demand.need, entry.offer.pool, choice.value, left) is None:
            yield choice


def _choice(entry: Entry, nodes: int, demand: rank.Demand, *, boots: bool, up: bool | None) -> Choice:
    pool, market = entry.offer.pool, demand.question.market
    value = rank.value(entry.offer, entry.price, nodes, node_hazard=entry.node_hazard, boots=boots, demand=demand)
    return Choice(
        id=f"{pool.id}*{nodes}",
        pool=pool,
        nodes=nodes,
        value=value,
        speed=value.speed,
        hazard=value.hazard,
        changeover=market(_delay(entry, demand, boots=boots)) / SECOND,
        egress=value.egress / MICRO,
        up=up,
    )


def _delay(entry: Entry, demand: rank.Demand, *, boots: bool) -> Millis:
    """Wall time, p90. Machines of ours need no boot; an unmeasured pool boots and restarts as is believed."""
    policy, memory = demand.policy, demand.question.pools.get(entry.offer.pool.id)
    if not boots:
        return policy.restart
    told = Millis(entry.offer.boot + policy.restart)
    return changeover.believed(memory.delay if memory else changeover.UNSEEN, told).p90


def _up(entry: Entry, nodes: int, idle: int, free: int | None) -> bool | None:
    if nodes <= idle:
        return True
    if entry.cooling is not None:
        return False
    return None if free is None else nodes <= idle + free


def thinned(sizes: Sequence[int]) -> list[int]:
    """At most SIZES_MAX of them with about equal ratios; the smallest and the largest always."""
    if len(sizes) <= SIZES_MAX:
        return list(sizes)
    ratio = (sizes[-1] / sizes[0]) ** (1 / (SIZES_MAX - 1))
    wished = (sizes[0] * ratio**step for step in range(SIZES_MAX))
    return sorted({min(sizes, key=lambda size: abs(size - wish)) for wish in wished})
