"""The market: which pools are sold, what each carries and costs at an age, and the levers that bend it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, TypeVar

from dsched.providers import catalog
from dsched.providers.local import generator, replay
from dsched.providers.local.tape import Tape, constant
from dsched.providers.local.zone import (
    DEPTH,
    DEPTH_ELSE,
    NOTICE,
    ON_DEMAND_DEPTH,
    PRICE_EVERY,
    RESERVED_SHARE,
    SWING,
    ZONES,
    Zone,
)
from dsched.scheduler.core.hardware import Accelerator, Shape
from dsched.scheduler.core.market import Market, Offer, Pool, Quote
from dsched.scheduler.core.units import HOUR, Instant, MicroUsdPerHour, Millis

T = TypeVar("T")

PROVIDER: Final = "local"
BOOT: Final = Millis(400)  # agent start (0.3 s) and the tree around it
YOUNGEST: Final = 0.1  # hours: the law's hazard has no bound below

# Shapes that older recordings name and the catalog does not list any more. NVIDIA K80 and V100 data sheets, EC2 pages.
_K80: Final = Accelerator(
    name="K80", memory_gib=12, bandwidth_gb_s=240, bf16_tflops=4.1, fp8_tflops=None, tdp_watts=150
)
_V100: Final = Accelerator(
    name="V100", memory_gib=16, bandwidth_gb_s=900, bf16_tflops=125.0, fp8_tflops=None, tdp_watts=300
)
_RETIRED: Final = {
    shape.name: shape
    for shape in (
        Shape(name="p2.xlarge", accelerator=_K80, gpus=1, vcpus=4, memory_gib=61),
        Shape(name="p2.8xlarge", accelerator=_K80, gpus=8, vcpus=32, memory_gib=488),
        Shape(name="p3.8xlarge", accelerator=_V100, gpus=4, vcpus=32, memory_gib=244),
        Shape(name="p3.16xlarge", accelerator=_V100, gpus=8, vcpus=64, memory_gib=488),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One pool on sale."""

    pool: Pool
    shape: Shape
    cloud: str
    on_demand: MicroUsdPerHour | None
    notice: Millis  # market's word; 0 where nothing is taken back
    tape: Tape
    source: str


class LocalMarket:
    """Every pool on sale. Immutable but for the levers, which bend spot prices and any pool's capacity."""

    def __init__(self, listings: Iterable[Listing], note: str) -> None:
        self.listings: Mapping[Pool, Listing] = {listing.pool: listing for listing in listings}
        self.note = note  # what kind of market this is, for people
        self._factors: dict[Pool, float] = {}
        self._capacities: dict[Pool, int] = {}

    def find(self, pattern: str) -> list[Pool]:
        """Pools whose id matches a shell pattern."""
        return [pool for pool in self.listings if fnmatchcase(pool.id, pattern)]

    def bend_price(self, pools: Iterable[Pool], factor: float | None) -> None:
        """Multiply the spot price from now on; None: back to the market."""
        _bend(self._factors, pools, factor)

    def bend_capacity(self, pools: Iterable[Pool], count: int | None) -> None:
        """Carry `count` nodes from now on; None: back to the market."""
        _bend(self._capacities, pools, count)

    def capacity(self, pool: Pool, age: Millis) -> int:
        """Nodes that the pool carries, those in use included."""
        bent = self._capacities.get(pool)
        return self.listings[pool].tape.at(age).capacity if bent is None else bent

    def price(self, pool: Pool, age: Millis) -> MicroUsdPerHour:
        price = self.listings[pool].tape.at(age).price
        factor = self._factors.get(pool, 1.0) if pool.market is Market.SPOT else 1.0
        return MicroUsdPerHour(max(1, round(price * factor)))

    def hazard(self, pool: Pool, age: Millis) -> float:
        """Interruptions per market hour: the law of the traces at the age of the present run. Only the past is used."""
        if pool.market is not Market.SPOT:
            return 0.0
        run = age - self.listings[pool].tape.at(age).since
        return generator.LAW / max(run / HOUR, YOUNGEST)

    def next(self, age: Millis) -> Millis:
        """The age of the next change anywhere."""
        return min(listing.tape.next(age) for listing in self.listings.values())

    def state(self, age: Millis) -> tuple[tuple[int, int], ...]:
        """(price, capacity) of every pool: unequal where offers have changed."""
        return tuple((self.price(pool, age), self.capacity(pool, age)) for pool in self.listings)

    def offers(self, age: Millis, now: Instant, used: Mapping[Pool, int]) -> list[Offer]:
        return [self._offer(listing, age, now, used.get(pool, 0)) for pool, listing in self.listings.items()]

    def _offer(self, listing: Listing, age: Millis, now: Instant, used: int) -> Offer:
        pool = listing.pool
        return Offer(
            pool=pool,
            shape=listing.shape,
            quote=Quote(price=self.price(pool, age), at=now, source=listing.source),
            on_demand=listing.on_demand,
            free=max(0, self.capacity(pool, age) - used),
            hazard=self.hazard(pool, age),
            notice=listing.notice,
            boot=BOOT,
        )


def generated(seed: int) -> LocalMarket:
    """The made-up market of a seed."""
    listings = [listing for zone in ZONES for listing in _zone(zone, seed)]
    return LocalMarket(listings, f"made-up market (seed {seed})")


def replayed(folder: Path, only: str = "*") -> LocalMarket:
    """The recorded market of a folder of traces, or of those whose file name matches. Raises replay.BadTrace."""
    traces = replay.load(folder, only)
    listings = [listing for trace in traces for listing in listed(trace)]
    return LocalMarket(listings, f"replayed market ({len(traces)} traces of {folder.name})")


def _bend(levers: dict[Pool, T], pools: Iterable[Pool], value: T | None) -> None:
    for pool in pools:
        if value is None:
            levers.pop(pool, None)
        else:
            levers[pool] = value


def _zone(zone: Zone, seed: int) -> Iterable[Listing]:
    held = dict(zone.reserved)
    for name in zone.shapes:
        shape, on_demand = _shape(name), _list_price(name, zone)
        spot = _pool(zone, name, Market.SPOT)
        weather = _weather(seed, zone, shape, spot)
        sold: list[tuple[Pool, Tape, str]] = [
            (spot, generator.spot_tape(seed, zone.region, spot.id, weather, on_demand), f"made up, seed {seed}"),
            (_pool(zone, name, Market.ON_DEMAND), constant(ON_DEMAND_DEPTH, on_demand), "list price"),
        ]
        if name in held:
            committed = MicroUsdPerHour(round(on_demand * RESERVED_SHARE))
            sold.append((_pool(zone, name, Market.RESERVED), constant(held[name], committed), "reservation"))
        for pool, tape, source in sold:
            yield Listing(
                pool=pool,
                shape=shape,
                cloud=zone.cloud,
                on_demand=on_demand,
                notice=NOTICE[zone.cloud] if pool.market is Market.SPOT else Millis(0),
                tape=tape,
                source=source,
            )


def listed(trace: replay.Trace) -> Sequence[Listing]:
    """The pools of a recording: spot as it was, on-demand beside it."""
    shape = _shape(trace.shape)

    def listing(market: Market, tape: Tape, source: str) -> Listing:
        return Listing(
            pool=Pool(PROVIDER, trace.region, trace.zone, trace.shape, market),
            shape=shape,
            cloud=trace.cloud,
            on_demand=trace.on_demand,
            notice=NOTICE[trace.cloud] if market is Market.SPOT else Millis(0),
            tape=tape,
            source=source,
        )

    return (
        listing(Market.SPOT, trace.tape, f"replay:{trace.name}"),
        listing(Market.ON_DEMAND, constant(ON_DEMAND_DEPTH, trace.on_demand), f"replay:{trace.name}"),
    )


def _pool(zone: Zone, shape: str, market: Market) -> Pool:
    return Pool(PROVIDER, zone.region, zone.name, shape, market)


def _shape(name: str) -> Shape:
    shape = catalog.load().shape(name) or _RETIRED.get(name)
    if shape is None:
        raise replay.BadTrace(f"unknown shape {name!r}: name one of the catalog in the trace's field `shape`")
    return shape


def _list_price(name: str, zone: Zone) -> MicroUsdPerHour:
    """The catalog's price in the zone's region, else what its home region asks, times the zone's dearness."""
    prices = catalog.load().listings[name].on_demand
    listed = prices.get(zone.region)
    return listed if listed is not None else MicroUsdPerHour(round(min(prices.values()) * zone.dearness))


def _weather(seed: int, zone: Zone, shape: Shape, pool: Pool) -> generator.Weather:
    """A pool's temper, drawn once per seed."""
    rng = random.Random(f"{seed}/{pool.id}/temper")  # noqa: S311 - a market, not a secret
    depth = DEPTH.get(shape.accelerator.name, DEPTH_ELSE) if shape.accelerator else DEPTH_ELSE
    return generator.Weather(
        calm=rng.uniform(0.1, 0.35),
        dry=rng.uniform(0.03, 0.08),
        depth=depth,
        share=rng.uniform(0.22, 0.55),
        swing=SWING[zone.cloud],
        price_every=PRICE_EVERY[zone.cloud],
    )
