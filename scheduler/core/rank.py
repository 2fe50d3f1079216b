"""What a gang in a pool costs per useful hour, and which size of it to take.

One currency for every shape: the *reference hour*. A job's `duration` is stated for its reference gang: the smallest
gang that it accepts (`gpus_min`) of the first GPU model that it names; where it names none, of the fastest GPU on offer
that it would accept, so that estimates err to the late side. Throughput is taken to grow with the peak TFLOPS of the
gang, with FP8 peaks where the job can use FP8 and the chip has it; where the job tells its model, tokens per second
take the place of TFLOPS, by the roofline and by what was measured (speed/pace.py). Jobs without a GPU run at the same
speed on every machine: how many cores a command uses is not known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dsched.scheduler.core import changeover, goodput, power
from dsched.scheduler.core.feasible import accelerator_matches, wrong_hardware
from dsched.scheduler.core.hardware import Accelerator, Shape
from dsched.scheduler.core.job import Need
from dsched.scheduler.core.market import Market, Offer
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.report import Value
from dsched.scheduler.core.snapshot import Job, PoolMemory
from dsched.scheduler.core.speed import fit, pace
from dsched.scheduler.core.units import HOUR, Instant, MicroUsd, MicroUsdPerHour, Millis, charge


class Reference(NamedTuple):
    """The gang for which a job's duration is stated."""

    words: str  # "8 x H100"
    speed: float  # of the whole gang: tokens per second where the model is known, else TFLOPS
    tokens: float | None = None  # per second


class Luggage(NamedTuple):
    """What a job brings along, and what it has told of itself."""

    size: float = 0.0  # bytes of its checkpoint, told or by its model; 0: none yet, or not known
    at: str = ""  # provider/region where that lies
    write: Millis | None = None  # wall: how long a checkpoint stalls it
    spot_left: Millis | None = None  # market: machine time on spot that its limit leaves; None: no limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What valuing an offer takes from the job, the clock and the policy: equal for equal jobs."""

    need: Need
    reference: Reference
    remaining: float | None  # reference hours
    deadline: Instant | None
    every: Millis | None  # wall; None: automatic
    drain: Millis  # wall
    now: Instant  # market
    question: Question
    policy: Policy
    luggage: Luggage = field(default=Luggage())
    paces: dict[tuple[str, int], pace.Pace] = field(default_factory=dict, compare=False, repr=False)
    """By shape and nodes, as they are worked out: offers are many, shapes are few."""


def reference(need: Need, question: Question) -> Reference:
    """The gang that counts as speed 1 for this need. Where nothing known could run it, speed means nothing."""
    if need.cpu_only:
        return Reference("any machine", 1.0)
    if need.model is not None:
        return _model_reference(need, question)
    on_offer = _on_offer(question)
    known = {**on_offer, **question.accelerators}
    for wanted in need.accelerators:
        named = [_one(chip) for chip in known.values() if accelerator_matches(wanted, chip)]
        if named:
            return _reference(named, need)
    fits = [one for one in map(_one, on_offer.values()) if wrong_hardware(need, one) is None]
    return _reference(fits, need) if fits else Reference("nothing on offer", 1.0)


def _model_reference(need: Need, question: Question) -> Reference:
    """The same gang by its tokens per second, measured where it was measured."""
    assert need.model is not None, "the caller has looked"
    known = {**_on_offer(question), **question.accelerators}
    measured = question.speeds.get(need.model.name)
    gpus = max(1, need.gpus_min)
    for wanted in need.accelerators or ("",):
        named = [
            chip for chip in known.values() if (accelerator_matches(wanted, chip) if wanted else _suits(need, chip))
        ]
        found = [(pace.reference(need, chip, gpus, measured), chip.name) for chip in named]
        if found:
            fastest, name = max(found, key=lambda one: (one[0].speed, one[1]))
            return Reference(f"{gpus} x {name}", fastest.speed, fastest.tokens)
    return Reference("nothing on offer", 1.0)


def _suits(need: Need, chip: Accelerator) -> bool:
    return wrong_hardware(need, _one(chip)) is None


def _on_offer(question: Question) -> dict[str, Accelerator]:
    return {chip.name: chip for offer in question.offers.values() if (chip := offer.shape.accelerator)}


def _reference(shapes: list[Shape], need: Need) -> Reference:
    """The fastest of these one-GPU shapes, `gpus_min` times."""
    fastest = max(shapes, key=lambda shape: (speed(shape, need), shape.name))
    gpus = max(1, need.gpus_min)
    return Reference(f"{gpus} x {fastest.name}", gpus * speed(fastest, need))


def _one(chip: Accelerator) -> Shape:
    return Shape(name=chip.name, accelerator=chip, gpus=1, vcpus=0, memory_gib=0)


def remaining_hours(job: Job, question: Question) -> float | None:
    """Reference hours left by the spec's own words and the last committed checkpoint; None: the spec states no work.

    The work is the duration that the user stated, else the tokens of a known model.
    """
    if job.spec.duration is not None:
        total = job.spec.duration / HOUR
    else:
        model = job.spec.need.model
        tokens = reference(job.spec.need, question).tokens if model and model.known and model.tokens else None
        if model is None or tokens is None:
            return None
        total = model.tokens / tokens / 3600.0
    done = min(job.checkpoint_step, job.spec.steps) / job.spec.steps if job.spec.steps else 0.0
    return total * (1.0 - done)


def luggage(job: Job) -> Luggage:
    need, limited = job.spec.need, job.spec.need.spot_share < 1.0
    return Luggage(
        size=changeover.checkpoint_bytes(job.checkpoint_bytes, need) if job.checkpoint_at else 0.0,
        at=job.checkpoint_at,
        write=job.write,
        spot_left=Millis(round(need.spot_share * job.machine) - job.spot) if limited else None,
    )


def speed(shape: Shape, need: Need) -> float:
    """One node's throughput in TFLOPS, for needs without a model; only ratios of it mean anything."""
    return 1.0 if need.cpu_only else shape.tflops(fp8=need.fp8 or need.fp8_required)


def ceiling(offer: Offer, price: MicroUsdPerHour, nodes: int, demand: Demand) -> MicroUsdPerHour:
    """The most that one node may come to cost within a lease; never below the price now.

    A spot price may rise: to `spot_ceiling` times the quote, at most to the on-demand price and the job's own limit.
    """
    top = int(price)
    if offer.pool.market is Market.SPOT:
        top = round(price * demand.policy.spot_ceiling)
        if offer.on_demand is not None:
            top = min(top, offer.on_demand)
    if demand.need.price_max is not None:
        top = min(top, demand.need.price_max // nodes)
    return MicroUsdPerHour(max(price, top))


def value(
    offer: Offer, price: MicroUsdPerHour, nodes: int, *, node_hazard: float, boots: bool, demand: Demand
) -> Value:
    """What `nodes` of this offer at `price` each are worth to the job; `boots`: at least one of them must be bought."""
    policy, market = demand.policy, demand.question.market
    hazard = nodes * node_hazard
    started = delay(offer, demand).mean
    every, share = useful(offer, nodes, node_hazard, started, demand)
    at = paced(offer.shape, nodes, demand)
    relative = at.speed / demand.reference.speed
    gang = MicroUsdPerHour(price * nodes)
    top = ceiling(offer, price, nodes, demand)
    wait = market(started) if boots else Millis(0)
    carried = changeover.egress(policy.facts.egress, demand.luggage.at, offer.pool.place, demand.luggage.size)
    known = _work(gang, share, relative, wait, demand)
    watts = power.watts(offer.shape, nodes)
    return Value(
        nodes=nodes,
        gpus=nodes * offer.shape.gpus,
        price=gang,
        ceiling=top,
        reserve=charge(MicroUsdPerHour(top * nodes), market(Millis(policy.lease + demand.drain))),
        off=1.0 - price / offer.on_demand if offer.on_demand else None,
        hazard=hazard,
        goodput=share,
        every=every,
        per_useful_hour=gang / (share * relative),
        hours=known.hours if known else None,
        compute=known.compute if known else None,
        redo=known.redo if known else None,
        move=known.move if known else None,
        finish=known.finish if known else None,
        speed=relative,
        egress=carried,
        wait=wait,
        layout=at.fit.words if at.fit else "",
        tokens_per_s=at.tokens,
        per_mtoken=gang / (at.tokens * share * 3600.0) * 1e6 if at.tokens else None,
        watts=watts,
        grams=policy.facts.carbon.get(offer.pool.region),
        burden=power.burden(watts, policy.facts.carbon.get(offer.pool.region), policy),
    )


def paced(shape: Shape, nodes: int, demand: Demand) -> pace.Pace:
    """The gang's throughput. A model that does not fit is stopped by feasible.gang_sizes, not here."""
    need = demand.need
    if need.model is None:
        return pace.Pace(nodes * speed(shape, need), 0.0)
    known = demand.paces.get((shape.name, nodes))
    if known is None:
        found = pace.pace(need, shape, nodes, demand.question.speeds.get(need.model.name))
        known = found or pace.Pace(demand.reference.speed * goodput.LEAST, 0.0)
        demand.paces[shape.name, nodes] = known
    return known


def delay(offer: Offer, demand: Demand) -> changeover.Believed:
    """From asking for machines of this pool to the job's first new step there, wall time.

    Until it was measured only the boot counts here: the restart is in the goodput.
    """
    memory: PoolMemory | None = demand.question.pools.get(offer.pool.id)
    seen = memory.delay if memory is not None else changeover.UNSEEN
    return changeover.wait(seen, offer.boot, demand.policy.restart)


def useful(offer: Offer, nodes: int, node_hazard: float, delay: Millis, demand: Demand) -> tuple[Millis, float]:
    """The checkpoint interval (market time) and the goodput of a gang of `nodes`; `delay` until they start, wall.

    An interruption of one node stops the gang. A notice long enough for a checkpoint spares the rework, but the
    interval does not count on it: notices get lost.
    """
    policy, market = demand.policy, demand.question.market
    stall = policy.write if demand.luggage.write is None else demand.luggage.write
    write = max(Millis(1), market(stall))
    hazard = nodes * node_hazard
    if demand.every is not None:
        every = max(Millis(1), market(demand.every))
    elif hazard > 0:
        longest = max(Millis(1), market(policy.checkpoint_max))
        every = min(longest, goodput.checkpoint_interval(write, Millis(max(1, round(HOUR / hazard)))))
    else:
        every = market(policy.checkpoint_max)
    unwarned = min(hazard, nodes * policy.hazard_failure) if offer.notice >= stall else hazard
    restart = market(max(Millis(policy.restart + offer.boot), delay))
    return every, goodput.goodput(hazard=hazard, unwarned=unwarned, restart=restart, write=write, every=every)


def best_size(
    offer: Offer, price: MicroUsdPerHour, sizes: range, *, idle: int, node_hazard: float, demand: Demand
) -> Value:
    """The size with the least expected cost that makes the deadline: the smallest one that does.

    With throughput that grows in proportion a larger gang costs the same per useful hour but for its hazard, which
    grows too, so the smallest is the cheapest and only a deadline is a reason to grow. When no size makes it: the
    fastest, which in a storm is not the largest.
    """

    def at(nodes: int) -> Value:
        return value(offer, price, nodes, node_hazard=node_hazard, boots=nodes > idle, demand=demand)

    if demand.need.model is not None:
        return _best_of(fit.sizes(demand.need.model, offer.shape, sizes), at, demand.deadline)
    smallest = at(sizes[0])
    if demand.deadline is None or smallest.finish is None or smallest.finish <= demand.deadline:
        return smallest
    left = (demand.deadline - demand.now) / HOUR
    relative = speed(offer.shape, demand.need) / demand.reference.speed
    least = (
        math.ceil((demand.remaining or 0.0) / (relative * left)) if left > 0 else sizes[-1]
    )  # if all time was useful
    for nodes in range(min(max(sizes[0] + 1, least), sizes[-1]), sizes[-1]):
        larger = at(nodes)
        if larger.finish is not None and larger.finish <= demand.deadline:
            return larger
    fastest = at(sizes[-1])
    while (half := fastest.nodes // 2) >= sizes[0] and _finish(smaller := at(half)) < _finish(fastest):
        fastest = smaller
    return fastest


def _best_of(sizes: Sequence[int], at: Callable[[int], Value], deadline: Instant | None) -> Value:
    """The cheapest that makes the deadline, else the fastest: of a model the smallest gang need not be the cheapest."""
    found = [at(nodes) for nodes in sizes]
    good = [v for v in found if deadline is None or v.finish is None or v.finish <= deadline]
    return min(good, key=lambda v: (v.score, v.nodes)) if good else min(found, key=_finish)


def _finish(value: Value) -> int:
    assert value.finish is not None, "sizes are compared by finish only where the work is known"
    return value.finish


class _Work(NamedTuple):
    hours: float
    compute: MicroUsd
    redo: MicroUsd
    move: MicroUsd
    finish: Instant


def _work(gang: MicroUsdPerHour, share: float, relative: float, boot: Millis, demand: Demand) -> _Work | None:
    if demand.remaining is None:
        return None
    busy = demand.remaining / relative
    hours = boot / HOUR + busy / share
    compute, total = round(gang * busy), round(gang * busy / share)
    return _Work(
        hours=hours,
        compute=MicroUsd(compute),
        redo=MicroUsd(max(0, total - compute)),
        move=MicroUsd(round(gang * boot / HOUR)),
        finish=Instant(demand.now + round(hours * HOUR)),
    )
