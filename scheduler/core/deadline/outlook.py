"""What a worker foresees from a market's past: tables of the slack MDP, priced, ready to be looked up.

An outlook is immutable input to the policy. It is made anew every EPOCH of market time, so that all jobs of a class
(the same changeover) share it, whenever they began.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import numpy as np

from dsched.scheduler.core.deadline.chronicle import Reading, Ride
from dsched.scheduler.core.deadline.hazard import AGES, HOUR
from dsched.scheduler.core.deadline.table import Grid, Regime, Singles, solve
from dsched.scheduler.core.deadline.view import Floats

EPOCH: Final = 6 * HOUR  # s of market time between outlooks, aligned to it
STEP: Final = 600.0  # s; also the shortest age class, so that young hazards are seen
WIDE: Final = 40  # slack levels beyond the fine ones
TABLES_KEPT: Final = 512  # of the cache; about 0.4 MB each for a horizon of 72 h
COARSE: Final = 0.35  # parameters are rounded to this in log space, so that tables are found again


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiers:
    """The tables of Q tiers in dollars, at the phases that decisions look up. A: AGES, N + 1 times, S slacks."""

    top: Floats  # [Q] $/h: zones up to this price belong
    price: Floats  # [Q] $/h that a runner pays there
    up: Floats  # [Q] factor on the up law
    down: Floats  # [Q] factor on the down law
    hop: Floats  # [Q] probability of being taken in after an interruption
    idle: Singles  # [Q, 2 + A, N+1, S] nothing runs: just up; taken in elsewhere; down by age
    held: Singles  # [Q, 2 + A, N+1, S] the same, on demand runs


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
        return (np.floor(self.made / EPOCH) + 1.0) * EPOCH


class Library:
    """Tables solved before, found again by their rounded parameters."""

    def __init__(self, kept: int = TABLES_KEPT) -> None:
        self._kept = kept
        self._tables: OrderedDict[tuple[object, ...], tuple[Singles, Singles]] = OrderedDict()

    def tables(self, regimes: list[Regime], grid: Grid, changeover: float) -> list[tuple[Singles, Singles]]:
        """Per regime: idle and held values [1 + A + A, N+1, S] in spot hours; solves what is missing in one go."""
        shape = (grid.steps, grid.step, len(grid.slack), grid.slack[-1], changeover)
        keys = [(shape, regime) for regime in regimes]
        missing = list(dict.fromkeys(key for key in keys if key not in self._tables))
        if missing:
            table = solve([key[1] for key in missing], grid, changeover)
            for t, key in enumerate(missing):
                self._tables[key] = (_phases_first(table.idle[t]), _phases_first(table.held[t]))
        for key in keys:
            self._tables.move_to_end(key)
        found = [self._tables[key] for key in keys]
        while len(self._tables) > self._kept:
            self._tables.popitem(last=False)
        return found


def _phases_first(values: Singles) -> Singles:
    return np.ascontiguousarray(values.transpose(2, 0, 1))


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
    grid = Grid.spanning(horizon, slack_max, changeover, step=STEP, wide=WIDE)
    rides = _distinct(reading.rides, on_demand)
    regimes = [_regime(ride, on_demand) for ride in rides]
    idle, held = [], []
    for ride, regime, table in zip(rides, regimes, library.tables(regimes, grid, changeover), strict=True):
        entry = np.array(regime.entry, np.float32)
        idle.append(np.float32(ride.price) * _looked_up(table[0], entry))
        held.append(np.float32(ride.price) * _looked_up(table[1], entry))
    return Outlook(
        made=reading.now,
        changeover=changeover,
        on_demand=on_demand,
        grid=grid,
        tiers=Tiers(
            top=np.array([reading.price[ride.members].max() * 1.02 for ride in rides]),
            price=np.array([ride.price for ride in rides]),
            up=np.array([ride.up for ride in rides]),
            down=np.array([ride.down for ride in rides]),
            hop=np.array([ride.hop for ride in rides]),
            idle=np.stack(idle),
            held=np.stack(held),
        ),
    )


def _looked_up(values: Singles, entry: Singles) -> Singles:
    """The phases that decisions ask for, [2 + A, N+1, S], of [A + A, N+1, S]."""
    taken_in = np.tensordot(entry, values[:AGES], 1)
    return np.concatenate([values[:1], taken_in[None], values[AGES:]])


def _distinct(rides: tuple[Ride, ...], on_demand: float) -> list[Ride]:
    """Rides that undercut on-demand, one per set of zones and rounded regime; the first ride where none does."""
    out: dict[object, Ride] = {}
    for ride in rides:
        if ride.price < on_demand:
            out[ride.members.tobytes(), _regime(ride, on_demand)] = ride
    return list(out.values()) or [rides[0]]


def _regime(ride: Ride, on_demand: float) -> Regime:
    entry = np.round(ride.entry, 1)
    entry[0] += 1.0 - entry.sum()
    alone = ride.hop == 0.0
    return Regime(
        ratio=_rounded(max(on_demand / ride.price, 1.02), 0.05),
        up=_rounded(ride.up, COARSE),
        down=_rounded(ride.down, COARSE),
        hop=0.0 if alone else round(ride.hop * 20) / 20,
        entry=(1.0,) + (0.0,) * (AGES - 1) if alone else tuple(float(x) for x in entry),
        fee=0.0 if ride.egress < 0.01 * ride.price else _rounded(ride.egress / ride.price, 0.3),
    )


def _rounded(value: float, grain: float) -> float:
    return float(np.exp(np.round(np.log(value) / grain) * grain))
