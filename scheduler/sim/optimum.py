"""The least that a job could have cost, had everything been known beforehand: an exact dynamic program.

The rules are those of replay.py. Backwards over the ticks, the cheapest way to finish is kept for every amount of work
left (in quanta that divide tick, changeover and work) and every mode: idle with the checkpoint in a region, on
on-demand in a region, on spot in a zone. Three things make it fast enough for plain numpy, and none costs exactness:

  a launch commits to its whole changeover, all of whose ticks must be up: one that ends earlier has cost money and
  time for nothing (egress obeys the triangle inequality, so a detour for the checkpoint's sake does not pay either);
  only work that can be left at a tick is looked at: the job cannot have done more than t ticks, nor may it have more
  left than fits before the deadline;
  dollars are whole numbers of a tiny unit (2**30 of them are more than any job costs). Prefix sums of prices are
  rounded down, not prices, so that a run of any length is off by less than one unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsched.scheduler.core.deadline.cheapest import HOUR
from dsched.scheduler.core.deadline.view import Bools, Floats, Ints
from dsched.scheduler.sim.replay import Jobs
from dsched.scheduler.sim.world import World

Row = NDArray[np.int32]  # [J, pad + quanta + 1] units by work left; the first pad + 1 are zero: done

NEVER: Final = 2**30 - 1  # units: cannot be done
CLOSED: Final = 2**30  # units for a tick that is not up; with NEVER on top it still fits
STATES_MAX: Final = 60_000_000  # amounts of work x ticks of a job, about half a second; see `_Size.of`
CELLS: Final = 32_000  # of one row that a batch should fill: numpy's own overhead is small there, and it stays in cache


def optimum(world: World, jobs: Jobs) -> Floats:
    """[J] dollars; inf for a job that cannot end in time. Raises ValueError where egress makes detours
    pay, or options differ in speed."""
    _check_egress(world.egress)
    if (world.speed != 1.0).any():
        raise ValueError(f"{world.name}: its options differ in speed; the optimum knows one speed only")
    cost = np.full(len(jobs), np.inf)
    kinds = np.stack([jobs.ticks.astype(np.float64), jobs.work, jobs.changeover], axis=1)
    for kind in np.unique(kinds, axis=0):
        same = np.flatnonzero((kinds == kind).all(axis=1))
        size = _Size.of(world.gap, int(kind[0]), kind[1], kind[2])
        if size.quanta > (size.ticks * size.step - size.delay):
            continue
        bill = _bill(world, size)
        batch = max(1, CELLS // size.width)
        for first in range(0, len(same), batch):
            rows = same[first : first + batch]
            cost[rows] = _solve(world, bill, size, jobs.start[rows])
    return cost


def exact(gap: float, ticks: int, work: float, changeover: float) -> bool:
    """Whether the optimum of such jobs is exact; else it is a lower bound, too low by parts of a thousand."""
    size = _Size.of(gap, ticks, work, changeover)
    quantum = gap / size.step
    return math.isclose(size.delay * quantum, changeover) and math.isclose(size.quanta * quantum, work)


@dataclass(frozen=True, slots=True)
class _Size:
    """Everything in quanta."""

    ticks: int
    step: int  # of work in a tick
    delay: int  # of a changeover
    quanta: int  # of work in all
    commits: int  # ticks of a launch until the next state in which it is warm

    @classmethod
    def of(cls, gap: float, ticks: int, work: float, changeover: float) -> _Size:
        """Quanta that divide all of it, unless that makes more than STATES_MAX: then they divide the tick alone.

        Changeover and work are rounded down to those, by a part of a tick, and the result is a lower bound.
        """
        one, other, whole = (round(value * 1000) for value in (gap, changeover, work))
        quantum = float(math.gcd(one, other, whole))
        if ticks * whole / quantum > STATES_MAX:
            quantum = one / max(1, int(STATES_MAX / ticks * one / whole))
        step, delay = round(one / quantum), int(other / quantum + 1e-9)
        return cls(ticks, step, delay, int(whole / quantum + 1e-9), max(1, -(-delay // step)))

    @property
    def gains(self) -> int:
        """Work done in those ticks."""
        return self.commits * self.step - self.delay

    @property
    def width(self) -> int:
        return min(self.quanta, self.ticks * self.step - self.quanta)

    def band(self, tick: int) -> tuple[int, int]:
        """The least and the most work that can be left at a tick."""
        return max(1, self.quanta - max(0, tick * self.step - self.delay)), min(
            self.quanta, (self.ticks - tick) * self.step
        )


@dataclass(frozen=True, slots=True)
class _Bill:
    """Units to pay at every tick of the world."""

    unit: float  # $
    stay: NDArray[np.int32]  # [T, O] for the tick
    launch: NDArray[np.int32]  # [T, O] for all ticks of a changeover from this one on
    open: Bools  # [T, O]
    opens: Bools  # [T, O] for all ticks of a changeover
    egress: Ints  # [R, R]


def _bill(world: World, size: _Size) -> _Bill:
    hours = world.gap / HOUR
    paid = size.quanta // size.step + size.commits + 2
    unit = (paid * hours * float(world.on_demand.max()) + float(world.egress.max())) / (NEVER - 1)
    sums = np.zeros((world.ticks + 1, world.price.shape[1]), np.int64)
    sums[1:] = np.floor(np.cumsum(world.price * (hours / unit), axis=0))
    open_ = np.concatenate([np.ones(world.on_demand.shape, bool), world.up], axis=1)
    opens = open_.copy()
    span = size.commits
    for ahead in range(1, span):
        opens[:-ahead] &= open_[ahead:]
    stay = np.where(open_, np.minimum(np.diff(sums, axis=0), CLOSED), CLOSED)
    whole = np.full(stay.shape, CLOSED, np.int64)
    whole[: world.ticks + 1 - span] = sums[span:] - sums[: world.ticks + 1 - span]
    launch = np.where(opens, np.minimum(whole, CLOSED), CLOSED)  # so dear that on-demand is always better
    egress = np.floor(world.egress / unit).astype(np.int64)
    return _Bill(unit, stay.astype(np.int32), launch.astype(np.int32), open_, opens, egress)


@dataclass(slots=True)
class _Layer:
    """The values at one tick: rows by mode. A spot row may stand for the idle row of its region."""

    idle: list[Row]  # [R]
    options: list[Row]  # [O] on-demand by region, then spot by zone
    own: list[Row] = field(default_factory=list)  # [O] what options were given to write in


def _solve(world: World, bill: _Bill, size: _Size, start: Ints) -> Floats:
    """[J] dollars for jobs of one size."""
    layers = [_layer(world, size, len(start)) for _ in range(size.commits + 1)]
    sweep = _Sweep(world, bill, size, layers, len(start))
    best = np.full(len(start), NEVER, np.int64)
    at = start + np.arange(size.ticks)[:, None]  # [N, J]
    opens = [row.nonzero()[0].tolist() for row in bill.opens[at].any(axis=1)]
    open_ = [row.nonzero()[0].tolist() for row in bill.open[at].any(axis=1)]
    for tick in range(size.ticks - 1, -1, -1):
        where = at[tick]
        first = sweep.launch(tick, where, opens[tick])
        if first is not None:
            best = np.minimum(best, first)
        sweep.stay(tick, where, open_[tick])
    return np.where(best >= NEVER, np.inf, best * bill.unit)


def _layer(world: World, size: _Size, jobs: int) -> _Layer:
    def row() -> Row:
        made = np.full((jobs, size.step + size.quanta + 1), NEVER, np.int32)
        made[:, : size.step + 1] = 0
        return made

    own = [row() for _ in world.market]
    return _Layer([row() for _ in world.regions], list(own), own)


class _Sweep:
    """One batch on its way backwards. `layers` is a ring: as many ticks ahead as a launch reaches."""

    def __init__(self, world: World, bill: _Bill, size: _Size, layers: list[_Layer], jobs: int) -> None:
        self.bill, self.size, self.layers = bill, size, layers
        self.place = [int(region) for region in world.place]
        self.regions = len(world.regions)
        self.routes = _routes(bill.egress)
        self.spare = np.empty((jobs, size.quanta + 1), np.int32)
        self.into = [np.empty((jobs, size.quanta + 1), np.int32) for _ in range(self.regions)]
        self.shared = {group: np.empty((jobs, size.quanta + 1), np.int32) for group in _groups(self.routes)}

    def launch(self, tick: int, where: Ints, opens: list[int]) -> Ints | None:
        """Fill the idle rows of a tick. Returns [J] the cost of a first launch now, None where none is possible."""
        size = self.size
        low, high = size.band(tick)
        here, ahead = self._layer(tick), self._layer(tick + 1)
        there = slice(size.step + low, size.step + high + 1)
        if tick + size.commits > size.ticks:
            for region in range(self.regions):
                here.idle[region][:, there] = ahead.idle[region][:, there]
            return None
        count = high - low + 1
        into = self._arrivals(tick, where, opens, low, high)
        joined = {group: self._join(group, into, count) for group in self.shared}
        for region, routes in enumerate(self.routes):
            row = here.idle[region][:, there]
            np.minimum(ahead.idle[region][:, there], into[region], out=row)
            for fee, group in routes:
                reached = joined[group] if len(group) > 1 else into[group[0]]
                np.minimum(row, np.add(reached, fee, out=self.spare[:, :count]), out=row)
        if high < size.quanta:
            return None
        first: Ints = np.min([row[:, -1] for row in into], axis=0).astype(np.int64)
        return first

    def _arrivals(self, tick: int, where: Ints, opens: list[int], low: int, high: int) -> list[Row]:
        """By region, the cost of having launched there, but for the egress."""
        size, far = self.size, self._layer(tick + self.size.commits)
        then = slice(size.step + low - size.gains, size.step + high + 1 - size.gains)
        into = [row[:, : high - low + 1] for row in self.into]
        for option in opens:
            region = self.place[option]
            fee = self.bill.launch[where, option][:, None]
            if option < self.regions:
                np.add(far.options[option][:, then], fee, out=into[region])
            else:
                spare = np.add(far.options[option][:, then], fee, out=self.spare[:, : high - low + 1])
                np.minimum(into[region], spare, out=into[region])
        return into

    def _join(self, group: tuple[int, ...], into: list[Row], count: int) -> Row:
        joined = self.shared[group][:, :count]
        np.minimum(into[group[0]], into[group[1]], out=joined)
        for region in group[2:]:
            np.minimum(joined, into[region], out=joined)
        return joined

    def stay(self, tick: int, where: Ints, open_: list[int]) -> None:
        """Fill the rows of running modes of a tick: go on, or give up and idle there."""
        size = self.size
        low, high = size.band(tick)
        here, ahead = self._layer(tick), self._layer(tick + 1)
        there = slice(size.step + low, size.step + high + 1)
        then = slice(low, high + 1)
        here.options[self.regions :] = [here.idle[region] for region in self.place[self.regions :]]
        for option in open_:
            row = here.own[option]
            fee = self.bill.stay[where, option][:, None]
            np.add(ahead.options[option][:, then], fee, out=row[:, there])
            np.minimum(row[:, there], here.idle[self.place[option]][:, there], out=row[:, there])
            here.options[option] = row

    def _layer(self, tick: int) -> _Layer:
        return self.layers[tick % len(self.layers)]


def _routes(egress: Ints) -> list[list[tuple[int, tuple[int, ...]]]]:
    """By region, what a move costs and which regions it reaches for that or less, few and shared groups.

    Naming a nearer region again among the farther ones changes no minimum, and lets regions share their groups.
    """
    routes = []
    for row in egress:
        fees = sorted({int(fee) for fee in row})
        routes.append(
            [(fee, tuple(int(to) for to in np.flatnonzero(row <= fee))) for fee in fees if fee or row.sum() == 0]
        )
    return [[(fee, group) for fee, group in route if len(group) > 1] for route in routes]


def _groups(routes: list[list[tuple[int, tuple[int, ...]]]]) -> Iterator[tuple[int, ...]]:
    return iter({group for route in routes for _, group in route})


def _check_egress(egress: Floats) -> None:
    detour = (egress[:, :, None] + egress[None, :, :]).min(axis=1)
    if (egress > detour + 1e-9).any() or np.diag(egress).any():
        raise ValueError("egress: a detour by a third region is cheaper than the way itself; give a closed table")
