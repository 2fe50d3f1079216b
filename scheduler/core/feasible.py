"""Can this offer serve this job at all? One small function per constraint: a refusal with its reason, or None.

They take only what they judge, so each can be read and tested alone. The order of asking is that of report.Why.
"""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase

from dsched.scheduler.core.hardware import BY_NAME, Accelerator, Shape
from dsched.scheduler.core.job import Need
from dsched.scheduler.core.market import Market, Offer, Pool
from dsched.scheduler.core.report import Refusal, Value, Why, dollars
from dsched.scheduler.core.snapshot import PoolMemory
from dsched.scheduler.core.speed import fit as speed
from dsched.scheduler.core.speed.model import Model
from dsched.scheduler.core.units import HOUR, MINUTE, Charge, Instant, MicroUsdPerHour, Millis, to_charge, to_micro_usd


def wrong_market(need: Need, pool: Pool) -> Refusal | None:
    if pool.market in need.markets:
        return None
    wanted = " or ".join(need.markets) or "no market at all"
    return Refusal(Why.MARKET_NOT_WANTED, f"{pool.market} capacity; the job wants {wanted}")


def wrong_place(places: Collection[str], pool: Pool) -> Refusal | None:
    """Globs over provider/zone; provider/region matches too, since AWS zone ids do not begin with their region."""
    spots = (f"{pool.provider}/{pool.zone}", f"{pool.provider}/{pool.region}")
    if not places or any(fnmatchcase(spot, place) for place in places for spot in spots):
        return None
    return Refusal(Why.PLACE_NOT_WANTED, f"{spots[0]} matches none of {', '.join(places)}")


def accelerator_matches(wanted: str, chip: Accelerator) -> bool:
    """ "A100" means every A100; "A100-80" only that one."""
    return chip.name == wanted or chip.name.startswith(f"{wanted}-")


def wrong_accelerator(need: Need, shape: Shape) -> Refusal | None:
    chip = shape.accelerator
    if chip is not None and chip.name in BY_NAME and chip.name not in need.accelerators:
        return Refusal(Why.WRONG_ACCELERATOR, f"{chip.name} runs what was built for it; the job does not name it")
    if need.cpu_only:
        return None
    if chip is None or shape.gpus < 1:
        return Refusal(Why.WRONG_ACCELERATOR, f"{shape.name} has no GPU")
    if need.accelerators and not any(accelerator_matches(wanted, chip) for wanted in need.accelerators):
        return Refusal(Why.WRONG_ACCELERATOR, f"{chip.name}; the job wants {' or '.join(need.accelerators)}")
    return None


def too_little_memory(need: Need, shape: Shape) -> Refusal | None:
    chip = shape.accelerator
    if need.cpu_only or chip is None or chip.memory_gib >= need.gpu_memory_gib:
        return None
    return Refusal(
        Why.TOO_LITTLE_MEMORY, f"{chip.name} has {chip.memory_gib} GiB per GPU; the job needs {need.gpu_memory_gib}"
    )


def no_fp8(need: Need, shape: Shape) -> Refusal | None:
    chip = shape.accelerator
    if need.cpu_only or not need.fp8_required or chip is None or chip.fp8_tflops:
        return None
    return Refusal(Why.NO_FP8, f"{chip.name} has no FP8, which the job requires")


def wrong_hardware(need: Need, shape: Shape) -> Refusal | None:
    return wrong_accelerator(need, shape) or too_little_memory(need, shape) or no_fp8(need, shape)


def gang_sizes(need: Need, shape: Shape, nodes_max: int) -> range | Refusal:
    """The numbers of nodes whose GPUs lie within the elastic range. Whole nodes: half a machine cannot be had."""
    if need.cpu_only:
        return range(1, 2)
    each, wanted = shape.gpus, f"{need.gpus_min}..{need.gpus_max} GPUs"
    nodes_max = min(nodes_max, need.nodes_max or nodes_max)
    if each > need.gpus_max:
        return Refusal(Why.TOO_MANY_GPUS, f"one {shape.name} has {each} GPUs; the job wants {wanted}")
    least, most = max(1, -(-need.gpus_min // each)), need.gpus_max // each
    if least > nodes_max:
        return Refusal(
            Why.TOO_FEW_GPUS, f"{least} nodes of {each} GPUs would be needed; a gang has {nodes_max} at most"
        )
    if most < least:
        return Refusal(Why.UNEVEN_GANG, f"no whole number of nodes with {each} GPUs gives {wanted}")
    sizes = range(least, min(most, nodes_max) + 1)
    return sizes if need.model is None or not need.model.known else _model_sizes(need.model, shape, sizes, nodes_max)


def _model_sizes(model: Model, shape: Shape, sizes: range, nodes_max: int) -> range | Refusal:
    """From the smallest gang that the model fits on to the largest; there may be sizes between that do not do."""
    if found := speed.sizes(model, shape, sizes):
        return range(found[0], found[-1] + 1)
    worst = speed.fit(model, shape, sizes[-1])
    assert isinstance(worst, speed.Misfit), "a size that fits is among the sizes"
    more = speed.nearest(model, shape, sizes[-1], nodes_max)
    hint = f"; {more} nodes would do" if more else f"; no gang of up to {nodes_max} nodes would do"
    why = Why.UNEVEN_LAYOUT if worst.least is None else Why.DOES_NOT_FIT
    return Refusal(why, f"{model.name} on {sizes[-1]} x {shape.name}: {worst.words}{hint}")


def over_spot_share(need: Need, pool: Pool, value: Value, left: Millis | None) -> Refusal | None:
    """`left`: machine time on spot that the limit allows after what the job has had, market time; None: no limit.

    Spot may be used up to its share of all that the job has had and, where the work is known, is expected to need: so a
    job may begin on spot. Where the work is not known spot must have been earned by other capacity before.
    """
    if left is None or pool.market is not Market.SPOT:
        return None
    ahead = 0.0 if value.hours is None else value.hours * value.nodes * need.spot_share
    allowed = left / HOUR + ahead
    if allowed > 0:
        return None
    used_up = f"spot is used up: at most {need.spot_share:.0%} of the machine hours may be spot"
    return Refusal(Why.OVER_SPOT_SHARE, used_up if need.spot_share else "spot, of which the job may have nothing")


def no_price(offer: Offer) -> Refusal | None:
    if offer.quote is not None:
        return None
    return Refusal(Why.NO_PRICE, "no price is known, and an unknown price is never paid")


def stale_price(quoted: Instant, now: Instant, stale_after: Millis) -> Refusal | None:
    if now - quoted <= stale_after:
        return None
    return Refusal(Why.STALE_PRICE, f"the price is {lasting(now - quoted)} old; {lasting(stale_after)} is the limit")


def over_price_max(need: Need, nodes: int, price: MicroUsdPerHour) -> Refusal | None:
    """Judges the smallest gang: a larger one is dearer still."""
    if need.price_max is None or nodes * price <= need.price_max:
        return None
    return Refusal(Why.OVER_PRICE_MAX, f"{dollars(nodes * price)}/h is above the limit of {dollars(need.price_max)}/h")


def ends_soon(until: Instant | None, now: Instant, least: Millis) -> Refusal | None:
    if until is None or until - now >= least:
        return None
    return Refusal(
        Why.ENDS_SOON, f"held for another {lasting(max(0, until - now))} only; {lasting(least)} are needed to be of use"
    )


def cooling(memory: PoolMemory | None, now: Instant) -> Refusal | None:
    if memory is None or memory.cool_until <= now:
        return None
    why = f" ({memory.why})" if memory.why else ""
    return Refusal(Why.COOLING_DOWN, f"cooling down for another {lasting(memory.cool_until - now)}{why}")


def short(smallest: int, idle: int, free: int | None) -> Refusal | None:
    """All or nothing: a pool that has some nodes, but not the gang, has none for us. `free` None: not told, so try."""
    if free is None or idle + free >= smallest:
        return None
    if idle + free <= 0:
        return Refusal(Why.NO_CAPACITY, "sold out")
    return Refusal(
        Why.NOT_ENOUGH_FOR_GANG, f"only {idle + free} of the gang's {smallest} nodes can be had: all or nothing"
    )


def over_quota(smallest: int, idle: int, left: int | None) -> Refusal | None:
    """`left`: nodes that our account may still start there; None: no quota is known."""
    if left is None or idle + left >= smallest:
        return None
    return Refusal(
        Why.OVER_QUOTA, f"the account's quota, or what is held for us, leaves {left} of the gang's {smallest} nodes"
    )


def over_cost_max(left: Charge | None, value: Value, lease: Millis) -> Refusal | None:
    """`left` of the job's own limit must cover the expected cost; or one lease (market time), where that is unknown."""
    if left is None:
        return None
    expected = value.expected
    owed = Charge(value.price * lease) if expected is None else to_charge(expected)
    if owed <= left:
        return None
    what = "the first lease alone costs" if expected is None else "expected to cost"
    return Refusal(
        Why.OVER_COST_MAX, f"{what} {dollars(to_micro_usd(owed))}; {dollars(to_micro_usd(left))} is left of cost_max"
    )


def over_budget(name: str, room: Charge | None, more: Charge) -> Refusal | None:
    """`more`: to set aside for the first lease, beside what the leases of machines that we have set aside already."""
    if room is None or more <= room:
        return None
    asked, left = dollars(to_micro_usd(more)), dollars(to_micro_usd(Charge(max(0, room))))
    return Refusal(Why.OVER_BUDGET, f"the first lease must reserve {asked}; budget {name} has {left} left")


def late(value: Value, deadline: Instant | None) -> Refusal | None:
    """Judges expected finishes; where the work is not known nothing can be called late."""
    if deadline is None or value.finish is None or value.finish <= deadline:
        return None
    return Refusal(Why.LATE, f"expected to finish {lasting(value.finish - deadline)} after the deadline")


def avoided(pool: str, avoid: Collection[str]) -> Refusal | None:
    if pool not in avoid:
        return None
    return Refusal(Why.AVOIDED, "interrupted or refused this job lately; only when nothing else fits")


def lasting(ms: int) -> str:
    """A duration for sentences."""
    if ms >= 48 * HOUR:
        return f"{ms / (24 * HOUR):.1f} days"
    if ms >= HOUR:
        return f"{ms / HOUR:.1f} h"
    return f"{ms / MINUTE:.0f} min" if ms >= MINUTE else f"{ms / 1000:.0f} s"
