"""The market as columns: one array per fact, one row per offer, in the order of pool ids.

Built once per market (`of`), not per pass: what a pass changes (what is free, what cools down) it keeps beside them.
Shapes are [O], O = offers. A price that is not known is `known` False, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsched.scheduler.core.changeover import wait as delayed
from dsched.scheduler.core.hardware import Shape
from dsched.scheduler.core.hazard import evidence
from dsched.scheduler.core.market import Market, Offer
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.snapshot import PoolMemory
from dsched.scheduler.core.units import Instant

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

CODE: Final = {market: number for number, market in enumerate(Market)}
PLENTY: Final = 1 << 40  # nodes, where the provider does not tell how many: more than any gang


class Spot(NamedTuple):
    """A place as globs see it."""

    zone: str  # "provider/zone"
    region: str  # "provider/region"


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """All offers of one market. `offers` is the very mapping they were made of: another one is another version."""

    offers: Mapping[str, Offer]
    ids: tuple[str, ...]
    rows: tuple[Offer, ...]
    index: Mapping[str, int]
    shapes: tuple[Shape, ...]
    spots: tuple[Spot, ...]
    shape: Ints  # [O] into `shapes`
    spot: Ints  # [O] into `spots`
    market: Ints  # [O] CODE
    known: Bools  # [O] whether a price is known
    price: Ints  # [O] micro-dollars per hour of one node
    quoted: Ints  # [O] market ms of the observation
    on_demand: Floats  # [O] micro-dollars per hour; inf: unknown
    hazard: Floats  # [O] the provider's word per hour; nan: none
    notice: Floats  # [O] ms
    boot: Floats  # [O] ms, wall
    free: Ints  # [O] nodes; PLENTY: not told
    until: Floats  # [O] market ms to which it is held; inf: nobody ends it

    @classmethod
    def of(cls, offers: Mapping[str, Offer]) -> Columns:
        ids = tuple(sorted(offers))
        rows = tuple(offers[id] for id in ids)
        shapes: dict[Shape, int] = {}
        spots: dict[Spot, int] = {}
        shape_of: dict[int, int] = {}  # shapes are compared by identity first: hashing one takes a microsecond
        spot_of: dict[tuple[str, str, str], int] = {}  # many offers are of one zone: its names are put together once
        shape, spot = [], []
        for offer in rows:
            number = shape_of.get(id(offer.shape))
            if number is None:
                number = shape_of[id(offer.shape)] = shapes.setdefault(offer.shape, len(shapes))
            shape.append(number)
            pool = offer.pool
            zone = (pool.provider, pool.region, pool.zone)
            number = spot_of.get(zone)
            if number is None:
                place = Spot(f"{pool.provider}/{pool.zone}", f"{pool.provider}/{pool.region}")
                number = spot_of[zone] = spots.setdefault(place, len(spots))
            spot.append(number)
        quotes = [offer.quote for offer in rows]
        return cls(
            offers=offers,
            ids=ids,
            rows=rows,
            index={id: row for row, id in enumerate(ids)},
            shapes=tuple(shapes),
            spots=tuple(spots),
            shape=np.array(shape, np.int64),
            spot=np.array(spot, np.int64),
            market=np.array([CODE[offer.pool.market] for offer in rows], np.int64),
            known=np.array([quote is not None for quote in quotes], np.bool_),
            price=np.array([quote.price if quote else 0 for quote in quotes], np.int64),
            quoted=np.array([quote.at if quote else 0 for quote in quotes], np.int64),
            on_demand=np.array([np.inf if o.on_demand is None else o.on_demand for o in rows], np.float64),
            hazard=np.array([np.nan if o.hazard is None else o.hazard for o in rows], np.float64),
            notice=np.array([offer.notice for offer in rows], np.float64),
            boot=np.array([offer.boot for offer in rows], np.float64),
            free=np.array(free_of(rows), np.int64),
            until=np.array([np.inf if o.until is None else o.until for o in rows], np.float64),
        )

    @property
    def regions(self) -> set[str]:
        return {spot.region for spot in self.spots}


def free_of(rows: tuple[Offer, ...]) -> list[int]:
    return [PLENTY if offer.free is None else max(0, offer.free) for offer in rows]


class Risk(NamedTuple):
    """What our own memory adds to the columns, for one pass."""

    hazard: Floats  # [O] interruptions and failures of one node per market hour
    wait: Floats  # [O] wall ms from asking for machines to the first new step, as measured; else the typical boot
    cooling: Bools  # [O] nothing is bought there


def risk(columns: Columns, pools: Mapping[str, PoolMemory], policy: Policy, now: int) -> Risk:
    """The same as hazard.per_node and rank.delay, for all rows at once."""
    seen = np.zeros(len(columns.ids))
    expected = np.zeros(len(columns.ids))
    wait = columns.boot.copy()
    cooling = np.zeros(len(columns.ids), np.bool_)
    for id, memory in pools.items():
        row = columns.index.get(id)
        if row is not None:
            seen[row], expected[row] = evidence(memory, policy, Instant(now))
            cooling[row] = memory.cool_until > now
            if memory.delay.count:
                wait[row] = delayed(memory.delay, columns.rows[row].boot, policy.restart).mean
    usual = np.where(columns.market == CODE[Market.SPOT], policy.hazard_spot, 0.0)
    told = np.isfinite(columns.hazard) & (columns.hazard >= 0)
    prior = np.where(told, columns.hazard, usual)
    weight = policy.hazard_weight
    return Risk(policy.hazard_failure + prior * (seen + weight) / (expected + weight), wait, cooling)
