"""What a worker foresees from a market's past: tables of the slack MDP, priced, ready to be looked up.

An outlook is immutable input to the policy. It is made anew every EPOCH of market time, so that all jobs of a class
(the same changeover) share it, whenever they began.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from dsched.scheduler.core.deadline.chronicle import Reading, Ride
from dsched.scheduler.core.deadline.hazard import AGES, HOUR
from dsched.scheduler.core.deadline.table import Grid, Regime, Singles, Table, solve
from dsched.scheduler.core.deadline.view import Floats

EPOCH: Final = 6 * HOUR  # s of market time between outlooks, aligned to it
STEP: Final = 600.0  # s; also the shortest age class, so that young hazards are seen
WIDE: Final = 40  # slack levels beyond the fine ones
TABLES_KEPT: Final = 96  # of the cache; 2.4 MB each for a horizon of 6 days
COARSE: Final = 0.35  # parameters are rounded to this in log space, so that tables are found again


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiers:
    """The tables of Q tiers in dollars, at the phases that decisions look up. A: AGES, K times, S slacks."""

    top: Floats  # [Q] $/h: zones up to this price belong
    price: Floats  # [Q] $/h that a runner pays there
    up: Floats  # [Q] factor on the up law
    down: Floats  # [Q] factor on the down law
    hop: Floats  # [Q] probability of being taken in after an interruption
    idle: Singles  # [Q, 2 + A, K, S] nothing runs: just up; taken in elsewhere; down by age
    held: Singles  # [Q, 2 + A, K, S] the same, on demand runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """The market ahead of jobs with one changeover."""

    made: float  # market s
    changeover: float  # s
    on_demand: float  # $/h, the cheapest
    grid: Grid
    tiers: Tiers

    @property
    def until(self) -> float:
        """When the next outlook is due (market s)."""
        return float((np.floor(self.made / EPOCH) + 1.0) * EPOCH)


class Library:
    """Tables solved before, found again by their rounded parameters."""

    def __init__(self, kept: int = TABLES_KEPT) -> None:
        self._kept = kept
        self._tables: OrderedDict[tuple[object, ...], Table] = OrderedDict()

    def tables(self, regimes: Sequence[Regime], grid: Grid, changeover: float) -> list[Table]:
        """One per regime; what is missing is solved in one go."""
        shape = (grid.steps, grid.step, len(grid.slack), grid.slack[-1], changeover)
        keys = [(shape, regime) for regime in regimes]
        missing = list(dict.fromkeys(key for key in keys if key not in self._tables))
        if missing:
            solved = solve([key[1] for key in missing], grid, changeover)
            self._tables.update(zip(missing, solved, strict=True))
        for key in keys:
            self._tables.move_to_end(key)
        found = [self._tables[key] for key in keys]
        while len(self._tables) > self._kept:
            self._tables.popitem(last=False)
        return found

    def prepare(
        self,
        readings: Sequence[tuple[Reading, float]],
        *,
        changeover: float,
        horizon: float,
        slack_max: float,
    ) -> None:
        """Solve the tables of several (reading, on-demand $/h) together: a dozen cost little more than two."""
        regimes = [_regime(ride, price) for reading, price in readings for ride in _distinct(reading.rides, price)]
        few = list(dict.fromkeys(regimes))[: self._kept // 2]
        self.tables(few, _grid(horizon, slack_max, changeover), changeover)


def _grid(horizon: float, slack_max: float, changeover: float) -> Grid:
    return Grid.spanning(horizon, slack_max, changeover, step=STEP, wide=WIDE)


def foresee(
    reading: Reading,
    *,
    on_demand: float,
    changeover: float,
    horizon: float,
    slack_max: float,
    library: Library,
) -> Outlook:
    """The outlook at a reading, for jobs of one changeover (s) that need at most `horizon` and `slack_max` (s)."""
    grid = _grid(horizon, slack_max, changeover)
    rides = _distinct(reading.rides, on_demand)
    tables = library.tables([_regime(ride, on_demand) for ride in rides], grid, changeover)
    prices = np.array([ride.price for ride in rides])
    scale = prices.astype(np.float32)[:, None, None, None]
    return Outlook(
        made=reading.now,
        changeover=changeover,
        on_demand=on_demand,
        grid=grid,
        tiers=Tiers(
            top=np.array([reading.price[ride.members].max() * 1.02 for ride in rides]),
            price=prices,
            up=np.array([ride.up for ride in rides]),
            down=np.array([ride.down for ride in rides]),
            hop=np.array([ride.hop for ride in rides]),
            idle=scale * np.stack([table.idle for table in tables]),
            held=scale * np.stack([table.held for table in tables]),
        ),
    )


def _distinct(rides: tuple[Ride, ...], on_demand: float) -> list[Ride]:
    """Rides that undercut on-demand, one per set of zones and rounded regime; the first ride where none does."""
    out: dict[object, Ride] = {}
    for ride in rides:
        if ride.price < on_demand:
            out[ride.members.tobytes(), _regime(ride, on_demand)] = ride
    return list(out.values()) or [rides[0]]


def _regime(ride: Ride, on_demand: float) -> Regime:
    """The ride's parameters, rounded so that tables are found again."""
    alone = ride.hop == 0.0
    return Regime(
        ratio=_rounded(max(on_demand / ride.price, 1.02), 0.05),
        up=_rounded(ride.up, COARSE),
        down=_rounded(ride.down, COARSE),
        hop=0.0 if alone else round(ride.hop * 10) / 10,
        entry=(1.0,) + (0.0,) * (AGES - 1) if alone else _two_points(ride.entry),
        fee=0.0 if ride.egress < 0.01 * ride.price else _rounded(ride.egress / ride.price, 0.3),
    )


def _two_points(entry: Floats) -> tuple[float, ...]:
    """Ages of entered zones as two: fresh ones, in quarters, and the mean of the rest."""
    fresh = round(float(entry[0]) * 4) / 4
    rest = entry[1:] / max(float(entry[1:].sum()), 1e-9)
    middle = min(max(1, round(float(rest @ np.arange(1, AGES)))), AGES - 1)
    out = np.zeros(AGES)
    out[0], out[middle] = fresh, 1.0 - fresh
    return tuple(float(x) for x in out)


def _rounded(value: float, grain: float) -> float:
    return float(np.exp(np.round(np.log(value) / grain) * grain))
