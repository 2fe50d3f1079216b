"""Make a market up: pure functions from a seed to tapes.

Capacity comes and goes in runs. Their length follows the law that three years of traces on two clouds share: a run of
age a hours ends at a rate of about 0.6 to 0.8 / a per hour, runs with capacity and droughts alike. The longer it has
lasted, the longer it will. Zones of one region also share the region's droughts, so they fall together more often than
zones of different regions. Spot prices walk as a share of the on-demand price and come back to their mean.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dsched.providers.local.tape import Step, Tape
from dsched.scheduler.core.units import HOUR, MicroUsdPerHour, Millis

WEEK: Final = 168.0  # hours; the length of a chunk
LAW: Final = 0.65  # hazard x age of a pool by itself; with the droughts of its region 0.6 to 0.9, as measured
LONGEST: Final = 72.0  # hours; the law's mean is infinite without an end
REGION_UP: Final = 1.2  # hours: the youngest age of a region's time without drought ...
REGION_DOWN: Final = 0.12  # ... and of a drought; together about a seventh of the time is drought
EBB: Final = 0.35  # share of runs that are followed by another level of capacity, not by none


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """The temper of one spot pool."""

    calm: float  # hours: the youngest age at which a run with capacity ends; the median run is 2.7 times that
    dry: float  # the same for droughts
    depth: int  # nodes at most
    share: float  # mean spot price as a share of on-demand
    swing: float  # standard deviation of one price change, relative
    price_every: float  # hours between price changes, mean


def lasting(rng: random.Random, age: float, law: float = LAW) -> float:
    """Hours that a run lasts in total, given that it has reached `age`: P(longer than t) = (age / t) ** law."""
    return min(age * float((1.0 - rng.random()) ** (-1.0 / law)), LONGEST)


def runs(rng: random.Random, *, up: float, down: float, hours: float) -> Iterator[tuple[float, bool]]:
    """(start, has capacity) of every run within `hours`. The first is already under way."""
    here = rng.random() < up / (up + down)
    age = min(up if here else down, LONGEST) * 10 ** rng.uniform(0, 1.5)
    start = -age
    end = start + lasting(rng, age)
    while True:
        yield start, here
        if end >= hours:
            return
        start, here = end, not here
        end = start + lasting(rng, up if here else down)


def levels(rng: random.Random, weather: Weather, *, hours: float) -> list[tuple[float, int, float]]:
    """(start, nodes, start of the run with or without capacity), in order."""
    found: list[tuple[float, int, float]] = []
    for start, up in runs(rng, up=weather.calm, down=weather.dry, hours=hours):
        if not up and found and rng.random() < EBB:
            found.append((start, _level(rng, weather.depth), found[-1][2]))
        else:
            found.append((start, _level(rng, weather.depth) if up else 0, start))
    return found


def shares(
    rng: random.Random, weather: Weather, first: float, last: float, *, hours: float
) -> list[tuple[float, float]]:
    """(start, price / on-demand): a walk from `first` to about `last`, pulled back to its mean."""
    price, at = first, 0.0
    found = [(0.0, first)]
    while (at := at + rng.expovariate(1.0 / weather.price_every)) < hours:
        left = hours - at
        pull = 0.1 * math.log(weather.share / price) + (math.log(last / price) * min(1.0, weather.price_every / left))
        price = min(1.0, max(0.05, price * math.exp(pull + rng.gauss(0.0, weather.swing))))
        found.append((at, price))
    return found


def spot_tape(seed: int, region: str, pool: str, weather: Weather, on_demand: MicroUsdPerHour) -> Tape:
    """The tape of one spot pool. The same arguments give the same tape, chunk by chunk."""

    def chunk(number: int) -> list[Step]:
        rng = _rng(seed, pool, number)
        own = levels(rng, weather, hours=WEEK)
        droughts = list(runs(_rng(seed, region, number), up=REGION_UP, down=REGION_DOWN, hours=WEEK))
        edge, next_edge = _edge(seed, pool, number, weather), _edge(seed, pool, number + 1, weather)
        walk = shares(rng, weather, edge, next_edge, hours=WEEK)
        return _merged(own, droughts, walk, on_demand)

    return Tape(_millis(WEEK), chunk)


def _rng(seed: int, name: str, number: int) -> random.Random:
    return random.Random(f"{seed}/{name}/{number}")  # noqa: S311 - a market, not a secret


def _edge(seed: int, pool: str, number: int, weather: Weather) -> float:
    drawn = _rng(seed, f"{pool}/edge", number).gauss(0.0, 2 * weather.swing)
    return min(1.0, max(0.05, weather.share * math.exp(drawn)))


def _level(rng: random.Random, depth: int) -> int:
    return rng.randint(max(1, depth // 4), depth)


def _millis(hours: float) -> Millis:
    return Millis(round(hours * HOUR))


def _merged(
    own: list[tuple[float, int, float]],
    droughts: list[tuple[float, bool]],
    walk: list[tuple[float, float]],
    on_demand: MicroUsdPerHour,
) -> list[Step]:
    """One step wherever one of the three changes."""
    steps: list[Step] = []
    i = j = k = 0
    for at in sorted({0.0, *(max(0.0, row[0]) for row in (*own, *droughts, *walk))}):
        i, j, k = _in_force(own, i, at), _in_force(droughts, j, at), _in_force(walk, k, at)
        wet = droughts[j][1]
        since = max(own[i][2], droughts[j][0]) if wet else droughts[j][0]
        price = MicroUsdPerHour(round(on_demand * walk[k][1]))
        steps.append(Step(_millis(at), own[i][1] if wet else 0, price, _millis(since)))
    return steps


def _in_force(
    rows: list[tuple[float, int, float]] | list[tuple[float, bool]] | list[tuple[float, float]], i: int, at: float
) -> int:
    while i + 1 < len(rows) and rows[i + 1][0] <= at:
        i += 1
    return i
