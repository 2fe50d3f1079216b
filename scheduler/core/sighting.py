"""What was seen of a market: one record for every price step, launch, refusal and interruption.

A daemon sees only what it asks for. Where a provider tells how much is free, a pool is known while that provider
answers; elsewhere a pool is known at the moments when machines were bought or refused there, and while ours live there.
Everything else is unknown, and trace.py says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from dsched.scheduler.core.event import Event
from dsched.scheduler.core.hazard import told
from dsched.scheduler.core.market import Market, Offer
from dsched.scheduler.core.snapshot import State, Streak, Usual
from dsched.scheduler.core.units import HOUR, Instant, MicroUsdPerHour, Millis

FORGOTTEN: Final = Millis(2 * HOUR)  # market: a pool not seen for so long may have gone down and come back


class Sight(StrEnum):
    QUOTE = "quote"  # a price, or the number of free machines, is news
    WATCH = "watch"  # the provider answered: what it told last still holds, and so many of ours live
    SOLD = "sold"  # `count` machines were had
    REFUSED = "refused"  # `count` machines could not be had
    TAKEN = "taken"  # one of ours was interrupted
    OUTCOME = "outcome"  # what became of a prediction; see calibration.py


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One line of the market journal. Fields that its kind does not need keep their defaults."""

    at: Instant  # market
    kind: Sight
    pool: str = ""  # pool id
    region: str = ""
    provider: str = ""
    count: int = 0
    price: MicroUsdPerHour | None = None
    on_demand: MicroUsdPerHour | None = None
    free: int | None = None
    alive: Mapping[str, int] = field(default_factory=dict)  # pool id -> machines of ours
    until: Instant = Instant(0)  # of a quote that a cloud remembered: so long its price held
    chance: float = 0.0  # that was predicted
    happened: bool = False


def quoted(offer: Offer, at: Instant) -> Sighting | None:
    """The offer as a sighting. None: it says nothing."""
    if offer.quote is None and offer.free is None:
        return None
    return Sighting(
        at=at,
        kind=Sight.QUOTE,
        pool=offer.pool.id,
        region=offer.pool.region,
        provider=offer.pool.provider,
        price=offer.quote.price if offer.quote else None,
        on_demand=offer.on_demand,
        free=offer.free,
    )


def watched(state: State, provider: str, at: Instant) -> Sighting:
    """That a provider answered, with the machines of ours that live there."""
    alive: dict[str, int] = {}
    for node in state.nodes.values():
        if node.pool.provider == provider and node.launched is not None and node.notice is None:
            alive[node.pool.id] = alive.get(node.pool.id, 0) + 1
    return Sighting(at=at, kind=Sight.WATCH, provider=provider, alive=alive)


def heard(event: Event) -> list[Sighting]:
    """What an event of the core tells about the market: launches had and refused, machines taken."""
    data, at = event.data, event.at.market
    pool = data.get("pool")
    match event.kind:
        case "node.launched" if pool:
            return [Sighting(at=at, kind=Sight.SOLD, pool=pool, count=1)]
        case "intent.refused" if pool and data.get("by") == "capacity":
            return [Sighting(at=at, kind=Sight.REFUSED, pool=pool, count=data["count"])]
        case "node.noticed" if pool and data.get("first"):
            return [Sighting(at=at, kind=Sight.TAKEN, pool=pool, count=1)]
        case "node.gone" if pool and data.get("taken"):
            return [Sighting(at=at, kind=Sight.TAKEN, pool=pool, count=1)]
    return []


def spot(pool: str) -> bool:
    """Whether this pool id names spot capacity: the other markets have no ups and downs worth recording."""
    return pool.endswith(f"/{Market.SPOT}")


def streaks(sightings: Iterable[Sighting], *, now: Instant) -> dict[str, Streak]:
    """Since when each spot pool has been up or down, told from the past; not of pools that nobody saw lately."""
    found: dict[str, Streak] = {}
    last: dict[str, Instant] = {}
    for seen in sightings:
        for pool, up in _states(seen):
            found[pool] = told(found, pool, up=up, now=seen.at)
            last[pool] = seen.at
        if seen.kind is Sight.WATCH:
            for pool in found:
                if pool.startswith(f"{seen.provider}/"):
                    last[pool] = seen.at
    return {pool: streak for pool, streak in found.items() if now - last[pool] <= FORGOTTEN}


def usuals(sightings: Iterable[Sighting], *, over: float, now: Instant) -> dict[str, Usual]:
    """The usual price of each spot pool after this past: a mean that forgets, `over` hours."""
    means: dict[str, Usual] = {}
    held: dict[str, MicroUsdPerHour] = {}
    for seen in sightings:
        if seen.kind is Sight.QUOTE and seen.price is not None and spot(seen.pool):
            means[seen.pool] = _towards(means.get(seen.pool), held.get(seen.pool, seen.price), seen.at, over)
            held[seen.pool] = seen.price
    return {pool: _towards(mean, held[pool], now, over) for pool, mean in means.items()}


def _towards(mean: Usual | None, price: MicroUsdPerHour, at: Instant, over: float) -> Usual:
    """After `price` held until `at`."""
    if mean is None:
        return Usual(float(price), at)
    share = -math.expm1(-max(0, at - mean.at) / HOUR / over)
    return Usual(mean.price + share * (price - mean.price), at)


def _states(seen: Sighting) -> list[tuple[str, bool]]:
    match seen.kind:
        case Sight.QUOTE if seen.free is not None and spot(seen.pool):
            return [(seen.pool, seen.free > 0)]
        case Sight.SOLD if spot(seen.pool):
            return [(seen.pool, True)]
        case Sight.REFUSED | Sight.TAKEN if spot(seen.pool):
            return [(seen.pool, False)]
    return []
