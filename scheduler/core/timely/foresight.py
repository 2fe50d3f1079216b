"""What jobs of one class ask a worker to foresee, and how the worker makes it of the market's past.

A class is a set of spot pools with a gang size in each, a changeover and an on-demand price: its jobs share an outlook.
The core asks by an effect and is told by a message, so that the tables are immutable input to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import numpy as np

from dsched.scheduler.core.deadline.cheapest import PAID
from dsched.scheduler.core.deadline.chronicle import Chronicle, Reading
from dsched.scheduler.core.deadline.outlook import EPOCH, Library, Outlook, foresee
from dsched.scheduler.core.deadline.view import DOWN, UNKNOWN, UP, Floats, Ints, Observation
from dsched.scheduler.core.elastic.options import parse
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.units import SECOND, Instant

ZONES_MAX: Final = 64  # of one class, the cheapest: beyond a dozen places nearly always one is up
CHANGEOVER_STEP: Final = 1.15  # changeovers of one class differ by less: within what was measured anyway
CHANGEOVER_MIN: Final = 30.0  # s
SPAN_STEP: Final = 1.5  # horizons are rounded up to powers of this
SPAN_MIN: Final = 12 * 3600.0  # s
PRICE_STEP: Final = 1.25  # pools whose prices differ by less are equally cheap
DEAR: Final = 5.0  # times the dearest spot: stands for on-demand where there is none
PAST: Final = 14 * 24 * 3600.0  # s of history that a reading takes in: its evidence halves every 60 h


class Zone(NamedTuple):
    pool: str
    nodes: int
    speed: float
    price: float  # $/h of the gang now
    up: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a worker needs to know besides the journal."""

    base: str  # names the class
    made: Instant  # market
    zones: tuple[Zone, ...]
    on_demand: float  # $/h at the reference speed
    changeover: float  # s
    horizon: float  # s
    slack_max: float  # s

    def to_wire(self) -> dict[str, Any]:
        return {**asdict(self), "zones": [list(zone) for zone in self.zones]}

    @classmethod
    def from_wire(cls, told: Mapping[str, Any]) -> Request:
        """Raises KeyError or TypeError for what is none."""
        return cls(**{**told, "zones": tuple(Zone(*zone) for zone in told["zones"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """An outlook, and what it was asked for."""

    request: Request
    outlook: Outlook

    @property
    def stale(self) -> float:
        """Market s at which the next one is due: at the next of the epochs that all share."""
        return (self.request.made / SECOND // EPOCH + 1.0) * EPOCH

    def covers(self, wanted: Request) -> bool:
        return self.request.horizon >= wanted.horizon and self.request.slack_max >= wanted.slack_max

    def with_spans(self, wanted: Request) -> Request:
        """What to ask for instead, so that whoever this one serves is served by the next."""
        horizon, slack = max(self.request.horizon, wanted.horizon), max(self.request.slack_max, wanted.slack_max)
        return replace(wanted, horizon=horizon, slack_max=slack)


def request(seen: Observation, rework: float = 0.0) -> Request | None:
    """What this job's class asks for. None: there is no spot to foresee anything of.

    `rework`: s of every changeover that are work done twice. It comes and goes with the job's state, the class stays.
    """
    zones, job = _zones(seen), seen.job
    if not zones:
        return None
    # What is paid for already is no way out when spot fails: its slots are few, and at its price nothing is dear.
    sure = [o.price / o.speed for o in seen.options if o.market is not Market.SPOT and o.price >= PAID]
    on_demand = min(sure, default=DEAR * max(zone.price / zone.speed for zone in zones))
    delays = sorted(o.changeover for o in seen.options if o.market is Market.SPOT)
    changeover = _rounded(max(CHANGEOVER_MIN, delays[len(delays) // 2] - rework), CHANGEOVER_STEP)
    left = max(1.0, job.deadline - seen.now)
    known = (
        [(zone.pool, zone.nodes) for zone in zones],
        round(changeover),
        round(math.log(max(on_demand, 1e-6)) / 0.05),
    )
    return Request(
        base=blake2b(repr(known).encode(), digest_size=6).hexdigest(),
        made=Instant(round(seen.now * SECOND)),
        zones=zones,
        on_demand=on_demand,
        changeover=changeover,
        horizon=_above(left),
        slack_max=_above(max(left - job.left, 4 * changeover)),
    )


def outlook(
    wanted: Request, past: Sequence[Mapping[str, Any]], library: Library, *, begin: Instant, gap: float
) -> Outlook:
    """The outlook of a class, made of the journal's traces that begin at `begin` (market ms), `gap` seconds a tick.

    Pools that no trace knows count as unknown; the moment of the request itself is the last look.
    """
    up, price = _history(wanted, past, begin, gap)
    read = _read(up, price, begin, gap)
    return foresee(
        read,
        on_demand=wanted.on_demand,
        changeover=wanted.changeover,
        horizon=wanted.horizon,
        slack_max=wanted.slack_max,
        library=library,
    )


def _zones(seen: Observation) -> tuple[Zone, ...]:
    """Of each spot pool the size that works cheapest, which no price can change: all its machines cost the same.

    Of many pools the cheapest, by PRICE_STEP, so that not every move of a price makes another class.
    """
    best: dict[str, Zone] = {}
    for option in seen.options:
        if option.market is not Market.SPOT:
            continue
        pool, nodes = parse(option.id)
        zone = Zone(pool, nodes, option.speed, option.price, option.up)
        if pool not in best or _frugal(zone) < _frugal(best[pool]):
            best[pool] = zone
    cheapest = sorted(best.values(), key=lambda zone: (_step(zone.price / zone.speed), zone.pool))[:ZONES_MAX]
    return tuple(sorted(cheapest))


def _frugal(zone: Zone) -> tuple[float, int]:
    """Machines for so much work; rounded, since equal ones differ in the last digit."""
    return round(zone.nodes / zone.speed, 9), zone.nodes


def _step(price: float) -> int:
    return round(math.log(max(price, 1e-6)) / math.log(PRICE_STEP))


def _history(wanted: Request, past: Sequence[Mapping[str, Any]], begin: Instant, gap: float) -> tuple[Ints, Floats]:
    """[Z, T] states and dollars per reference hour; the request's own moment is the last column."""
    traces = {f"{_pool(trace)}": trace for trace in past}
    ticks = max(1, math.ceil((wanted.made - begin) / SECOND / gap))
    up: Ints = np.full((len(wanted.zones), ticks + 1), UNKNOWN, np.int64)
    price: Floats = np.full((len(wanted.zones), ticks + 1), np.nan)
    for z, zone in enumerate(wanted.zones):
        trace = traces.get(zone.pool)
        if trace is not None:
            first = round((trace["start"] - begin) / SECOND / gap)
            _write(up[z], price[z], zone, trace, first)
        up[z, -1] = UNKNOWN if zone.up is None else UP if zone.up else DOWN
        price[z, -1] = zone.price / zone.speed
        price[z] = _filled(price[z])
    return up, price


def _pool(trace: Mapping[str, Any]) -> str:
    provider = str(trace["name"]).partition("/")[2].partition("_")[0]
    return f"{provider}/{trace['zone']}/{trace['shape']}/{Market.SPOT}"


def _write(up: Ints, price: Floats, zone: Zone, trace: Mapping[str, Any], first: int) -> None:
    counts = [count for count, run in trace["counts_rle"] for _ in range(run)]
    for tick, (count, dollars) in enumerate(zip(counts, trace["spot_price_series"], strict=True), start=first):
        if 0 <= tick < len(up) - 1:
            up[tick] = UNKNOWN if count is None else UP if count >= zone.nodes else DOWN
            price[tick] = np.nan if dollars is None else dollars * zone.nodes / zone.speed


def _filled(price: Floats) -> Floats:
    """Unknown prices are those before them, at the beginning those after."""
    known = np.flatnonzero(np.isfinite(price))
    at = np.clip(np.searchsorted(known, np.arange(len(price)), side="right") - 1, 0, len(known) - 1)
    return price[known[at]]


def _read(up: Ints, price: Floats, begin: Instant, gap: float) -> Reading:
    book = Chronicle(len(up), gap)
    book.now = begin / SECOND - gap
    for tick in range(up.shape[1]):
        book.observe(up[:, tick], price[:, tick])
    return book.reading()


def _rounded(value: float, step: float) -> float:
    return math.exp(round(math.log(value) / math.log(step)) * math.log(step))


def _above(span: float) -> float:
    return SPAN_MIN * SPAN_STEP ** max(0, math.ceil(math.log(span / SPAN_MIN) / math.log(SPAN_STEP) - 1e-9))
