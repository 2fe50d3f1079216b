"""Judge a plan without knowing how it was made.

The planner and this checker share the words, not the arithmetic: everything is counted again from the question. Tests
run it on every plan, the engine in debug. A finding carries its evidence; an empty tuple means nothing was found.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from dsched.scheduler.core.hardware import BY_NAME
from dsched.scheduler.core.market import Offer
from dsched.scheduler.core.placement import Placement, Question
from dsched.scheduler.core.plan import Plan
from dsched.scheduler.core.report import Report
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.units import MINUTE, Charge, Instant, MicroUsdPerHour, Millis

HELD_LEAST: Final = Millis(30 * MINUTE)  # market: twice the quarter of an hour in which a job leaves


@dataclass(frozen=True, slots=True)
class JobTwice:
    job: str


@dataclass(frozen=True, slots=True)
class JobUnknown:
    job: str


@dataclass(frozen=True, slots=True)
class GangNotWhole:
    job: str
    nodes: int
    reuse: int
    buy: int


@dataclass(frozen=True, slots=True)
class OutsideRange:
    job: str
    gpus: int
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class NodeTwice:
    node: str


@dataclass(frozen=True, slots=True)
class NodeNotIdle:
    """Given away, but not idle, or not in the pool that the placement names."""

    job: str
    node: str
    pool: str


@dataclass(frozen=True, slots=True)
class OverCapacity:
    pool: str
    bought: int
    free: int


@dataclass(frozen=True, slots=True)
class OverQuota:
    pattern: str
    bought: int  # in the quota's unit
    left: int


@dataclass(frozen=True, slots=True)
class OverBudget:
    budget: str
    reserved: Charge
    room: Charge


@dataclass(frozen=True, slots=True)
class ReservesTooLittle:
    """The first lease could cost more than was set aside."""

    job: str
    reserved: Charge
    owed: Charge


@dataclass(frozen=True, slots=True)
class PriceUnknown:
    job: str
    pool: str


@dataclass(frozen=True, slots=True)
class PriceStale:
    job: str
    pool: str
    age: Millis


@dataclass(frozen=True, slots=True)
class PriceWrong:
    """Not the quote times the nodes, or a ceiling below the quote, or above what the job allows."""

    job: str
    price: MicroUsdPerHour
    quoted: MicroUsdPerHour


@dataclass(frozen=True, slots=True)
class Unsuitable:
    """The machine is not what the job asked for."""

    job: str
    pool: str
    what: str  # "market", "place", "accelerator", "memory", "fp8"


@dataclass(frozen=True, slots=True)
class BoughtWhileCooling:
    job: str
    pool: str
    until: Instant


@dataclass(frozen=True, slots=True)
class EndsSoon:
    """Sent to what is held for us for minutes only."""

    job: str
    pool: str
    until: Instant


@dataclass(frozen=True, slots=True)
class Unexplained:
    """A job without a report, or an offer that its report names not exactly once."""

    job: str
    offer: str
    times: int


@dataclass(frozen=True, slots=True)
class Disagrees:
    """The report says that another offer was chosen than the placement."""

    job: str
    placed: str
    reported: str


Finding = (
    JobTwice
    | JobUnknown
    | GangNotWhole
    | OutsideRange
    | NodeTwice
    | NodeNotIdle
    | OverCapacity
    | OverQuota
    | OverBudget
    | ReservesTooLittle
    | PriceUnknown
    | PriceStale
    | PriceWrong
    | Unsuitable
    | BoughtWhileCooling
    | EndsSoon
    | Unexplained
    | Disagrees
)


def check(question: Question, plan: Plan) -> tuple[Finding, ...]:
    """Everything that is wrong with this answer to this question."""
    jobs = {job.id: job for job in question.jobs}
    return (
        *_each_job_once(jobs, plan),
        *(finding for p in plan.placements if p.job in jobs for finding in _placement(jobs[p.job], p, question, plan)),
        *_nodes_once(plan),
        *_within_capacity(question, plan),
        *_within_quotas(question, plan),
        *_within_budget(question, plan),
        *_explained(jobs, question, plan),
    )


def _each_job_once(jobs: dict[str, Job], plan: Plan) -> Iterator[Finding]:
    for job, times in Counter(p.job for p in plan.placements).items():
        if job not in jobs:
            yield JobUnknown(job)
        if times > 1:
            yield JobTwice(job)


def _placement(job: Job, placed: Placement, question: Question, plan: Plan) -> Iterator[Finding]:
    pool = placed.pool.id
    offer = question.offers.get(pool)
    if placed.nodes < 1 or placed.buy < 0 or placed.nodes != len(placed.reuse) + placed.buy:
        yield GangNotWhole(job.id, placed.nodes, len(placed.reuse), placed.buy)
    for node in placed.reuse:
        if node not in question.idle.get(pool, ()):
            yield NodeNotIdle(job.id, node, pool)
    memory = question.pools.get(pool)
    if placed.buy and memory is not None and memory.cool_until > plan.at.market:
        yield BoughtWhileCooling(job.id, pool, memory.cool_until)
    if offer is None:
        yield PriceUnknown(job.id, pool)
        return
    if offer.until is not None and offer.until - plan.at.market < HELD_LEAST:
        yield EndsSoon(job.id, pool, offer.until)
    need, gpus = job.spec.need, placed.nodes * offer.shape.gpus
    if not need.cpu_only and not need.gpus_min <= gpus <= need.gpus_max:
        yield OutsideRange(job.id, gpus, need.gpus_min, need.gpus_max)
    if need.nodes_max is not None and placed.nodes > need.nodes_max:
        yield Unsuitable(job.id, pool, "nodes")
    yield from _suits(job, offer)
    yield from _priced(job, placed, offer, question, plan)


def _suits(job: Job, offer: Offer) -> Iterator[Finding]:
    need, pool, chip = job.spec.need, offer.pool, offer.shape.accelerator
    if pool.market not in need.markets:
        yield Unsuitable(job.id, pool.id, "market")
    places = job.places or need.places
    spots = (f"{pool.provider}/{pool.zone}", f"{pool.provider}/{pool.region}")
    if places and not any(fnmatchcase(spot, place) for place in places for spot in spots):
        yield Unsuitable(job.id, pool.id, "place")
    wanted = need.accelerators
    if chip is not None and chip.name in BY_NAME and chip.name not in wanted:
        yield Unsuitable(job.id, pool.id, "accelerator")
        return
    if need.cpu_only:
        return
    if chip is None or (wanted and chip.name not in wanted and chip.name.rpartition("-")[0] not in wanted):
        yield Unsuitable(job.id, pool.id, "accelerator")
    elif chip.memory_gib < need.gpu_memory_gib:
        yield Unsuitable(job.id, pool.id, "memory")
    elif need.fp8_required and not chip.fp8_tflops:
        yield Unsuitable(job.id, pool.id, "fp8")


def _priced(job: Job, placed: Placement, offer: Offer, question: Question, plan: Plan) -> Iterator[Finding]:
    quote, limit = offer.quote, job.spec.need.price_max
    if quote is None:
        yield PriceUnknown(job.id, offer.pool.id)
        return
    if (age := plan.at.market - quote.at) > plan.policy.stale_in(offer.pool.market):
        yield PriceStale(job.id, offer.pool.id, Millis(age))
    right = placed.price == quote.price * placed.nodes and placed.price_max >= quote.price
    if not right or (limit is not None and max(placed.price, placed.price_max * placed.nodes) > limit):
        yield PriceWrong(job.id, placed.price, MicroUsdPerHour(quote.price * placed.nodes))
    owed = Charge(placed.price_max * placed.nodes * round((plan.policy.lease + job.spec.drain) * question.scale))
    if placed.reserve < owed:
        yield ReservesTooLittle(job.id, placed.reserve, owed)


def _nodes_once(plan: Plan) -> Iterator[Finding]:
    for node, times in Counter(node for p in plan.placements for node in p.reuse).items():
        if times > 1:
            yield NodeTwice(node)


def _within_capacity(question: Question, plan: Plan) -> Iterator[Finding]:
    bought: Counter[str] = Counter()
    for placed in plan.placements:
        bought[placed.pool.id] += placed.buy
    for pool, count in bought.items():
        offer = question.offers.get(pool)
        if offer is not None and offer.free is not None and count > max(0, offer.free):
            yield OverCapacity(pool, count, offer.free)


def _within_quotas(question: Question, plan: Plan) -> Iterator[Finding]:
    for quota, left in question.quotas:
        bought = 0
        for placed in plan.placements:
            offer = question.offers.get(placed.pool.id)
            if offer is not None and quota.covers(placed.pool):
                bought += placed.buy * quota.takes(offer.shape)
        if bought > left:
            yield OverQuota(quota.pattern, bought, left)


def _within_budget(question: Question, plan: Plan) -> Iterator[Finding]:
    reserved: defaultdict[str, int] = defaultdict(int)
    budgets = {job.id: job.spec.budget for job in question.jobs}
    for placed in plan.placements:
        name, more = budgets.get(placed.job, placed.budget), int(placed.reserve)
        for node in placed.reuse:
            promise = question.promised.get(node)
            part = placed.reserve // max(1, placed.nodes)
            more -= min(promise.charge, part) if promise is not None and promise.budget == name else 0
        reserved[name] += max(0, more)
    for name, sum_of in reserved.items():
        room = question.room.get(name)
        if room is not None and sum_of > room:
            yield OverBudget(name, Charge(sum_of), room)


def _explained(jobs: dict[str, Job], question: Question, plan: Plan) -> Iterator[Finding]:
    placed = {p.job: p.pool.id for p in plan.placements}
    told: dict[int, tuple[Unexplained, ...]] = {}  # thousands of jobs may share one report
    for job in jobs:
        report = plan.reports.get(job)
        if report is None:
            if not plan.more or job in placed:
                yield Unexplained(job, "", 0)
            continue
        if id(report) not in told:
            told[id(report)] = tuple(_lines_once(job, report, question))
        yield from told[id(report)]
        chosen = report.chosen.offer if report.chosen else ""
        if chosen != placed.get(job, ""):
            yield Disagrees(job, placed.get(job, ""), chosen)


def _lines_once(job: str, report: Report, question: Question) -> Iterator[Unexplained]:
    times = Counter(line.offer for line in report.lines)
    if report.kept is not None and report.kept.possible + sum(report.refused.values()) != len(question.offers):
        yield Unexplained(job, "", report.kept.possible + sum(report.refused.values()))
    expected = times.keys() if report.kept is not None else question.offers.keys() | times.keys()
    for offer in expected:
        if times[offer] != 1 or offer not in question.offers:
            yield Unexplained(job, offer, times[offer])
    for line in report.lines:
        if (line.code is None) != (line is report.chosen):
            yield Unexplained(job, line.offer, 1)
