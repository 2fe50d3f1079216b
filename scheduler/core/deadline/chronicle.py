"""What the market has shown so far: ages, factors, and what a plain rule would have paid and suffered.

A chronicle is fed one look after another and never sees ahead. Beside the zones themselves it follows *runners*: for
each price tier and base rule an imagined gang that sits in the rule's zone until it is interrupted. What runners pay,
how often they are interrupted and whether another zone then takes them in is measured, not derived: a model built of
single zones is too hopeful about moving between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from dsched.scheduler.core.deadline import hazard
from dsched.scheduler.core.deadline.hazard import AGES, DOWN_LAW, HOUR, UP_LAW
from dsched.scheduler.core.deadline.view import DOWN, UP, Bools, Floats, Ints

APART: Final = 1.08  # a price this much above its cheaper neighbour ends the cheapest tier
TIER_TOPS: Final = (1.35, 2.0)  # the wider tiers reach to these multiples of the cheapest price; dearer zones: on sight
TIERS: Final = 1 + len(TIER_TOPS)
ZONE_WEIGHT, RUNNER_WEIGHT = 2.0, 2.0  # prior, in expected changes
HALF_LIFE: Final = 60 * HOUR  # of what was seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Ride:
    """One runner's record, fresh experience counting most."""

    members: Bools  # [Z] zones of its tier now
    price: float  # $/h: paid over the cheapest price of the time, times the cheapest price now
    hop: float  # probability that its tier takes it in at once after an interruption
    entry: Floats  # [AGES] ages of zones entered so
    up: float  # factor on the up law
    down: float  # factor on the down law
    egress: float  # $ per launch
    hours: float  # run, forgetting


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A chronicle at one moment: all that an outlook is made of."""

    now: float
    up: Ints  # [Z] UP, DOWN, UNKNOWN
    age: Floats  # [Z] s in that state
    price: Floats  # [Z] $/h
    factor_up: Floats  # [Z]
    factor_down: Floats  # [Z]
    rides: tuple[Ride, ...]  # one per tier, cheapest first


class Chronicle:
    """Streaming statistics of Z zones looked at every `gap` seconds."""

    def __init__(self, zones: int, gap: float, egress: Floats | None = None) -> None:
        """`egress`: [Z, Z] dollars to move a checkpoint from one zone to another; None: free."""
        self.gap = gap
        self.now = -gap
        self.egress: Floats = np.zeros((zones, zones)) if egress is None else egress
        self.up: Ints = np.full(zones, -1, np.int64)
        self.age: Floats = np.zeros(zones)
        self.price: Floats = np.ones(zones)
        self._known: Ints = np.full(zones, -1, np.int64)  # the last state that was not unknown
        self._rose = hazard.Tally(zones, weight=ZONE_WEIGHT, half_life=HALF_LIFE, gap=gap)
        self._fell = hazard.Tally(zones, weight=ZONE_WEIGHT, half_life=HALF_LIFE, gap=gap)
        self._runners = _Runners(TIERS, zones, gap)

    def observe(self, up: Ints, price: Floats) -> None:
        """One look: states [Z] (UP, DOWN, UNKNOWN) and prices [Z] in $/h, `gap` after the one before."""
        self.now += self.gap
        seen = up >= 0
        before = self._known
        fell = seen & (before == UP) & (up == DOWN)
        rose = seen & (before == DOWN) & (up == UP)
        due_up = hazard.accrued(self.age + self.gap, UP_LAW) - hazard.accrued(self.age, UP_LAW)
        due_down = hazard.accrued(self.age + self.gap, DOWN_LAW) - hazard.accrued(self.age, DOWN_LAW)
        self._fell.add(fell, np.where(seen & (before == UP), due_up, 0.0))
        self._rose.add(rose, np.where(seen & (before == DOWN), due_down, 0.0))
        turned = fell | rose | (seen & (before < 0))
        self.age = np.where(turned, 0.0, self.age + self.gap)
        self._known = np.where(seen, up, before)
        self.up, self.price = up, price
        self._runners.step(self)

    def reading(self) -> Reading:
        """The record as it stands now."""
        return Reading(
            now=self.now,
            up=self.up.copy(),
            age=self.age.copy(),
            price=self.price.copy(),
            factor_up=self._fell.factor(),
            factor_down=self._rose.factor(),
            rides=self._runners.rides(self.price),
        )

    @property
    def factor_up(self) -> Floats:
        """[Z] factors on the up law."""
        return self._fell.factor()


def tiers(price: Floats) -> Ints:
    """The tier of each zone by its price, 0 .. TIERS - 1, and TIERS for zones too dear for any.

    The cheapest tier is a chain of prices each less than APART above its neighbour, and never beyond the second's top.
    """
    ranked = np.sort(price)
    gaps = np.flatnonzero(ranked[1:] > ranked[:-1] * APART)
    top = ranked[gaps[0]] if len(gaps) else ranked[-1]
    tops = np.array([min(top, TIER_TOPS[0] * ranked[0]), *(x * ranked[0] for x in TIER_TOPS)])
    return np.asarray(np.searchsorted(tops, price * (1 - 1e-9)))


class _Runners:
    """The imagined gangs, K of them, stepped together."""

    def __init__(self, count: int, zones: int, gap: float) -> None:
        self.zone: Ints = np.full(count, -1, np.int64)
        self.last: Ints = np.full(count, -1, np.int64)  # where the checkpoint is
        self.down_for: Floats = np.zeros(count)
        self.lost = hazard.Tally(count, weight=RUNNER_WEIGHT, half_life=HALF_LIFE, gap=gap)
        self.back = hazard.Tally(count, weight=RUNNER_WEIGHT, half_life=HALF_LIFE, gap=gap)
        self.gap = gap
        self.sums: Floats = np.zeros((count, 6))  # hours, premium hours, interruptions, hops, launches, egress
        self.entry: Floats = np.zeros((count, AGES))
        self._prices: Floats | None = None
        self._tier: Ints = np.zeros(zones, np.int64)

    def step(self, seen: Chronicle) -> None:
        """One look: interruptions, then launches, then an hour's share of price and exposure."""
        tier, price = self._tiers(seen.price), seen.price
        lost = (self.zone >= 0) & (seen.up[self.zone] == DOWN)
        fresh = self.zone < 0
        self.zone = np.where(lost, -1, self.zone)
        self.down_for = np.where(lost, 0.0, self.down_for)
        self.sums *= self.lost.keep
        self.entry *= self.lost.keep
        waiting = np.flatnonzero(self.zone < 0)
        back: Bools = np.zeros(len(self.zone), bool)
        if len(waiting):
            found = self._launch(seen, tier, waiting)
            back[found] = fresh[found] & (self.last[found] >= 0)
            hopped = np.zeros(len(self.zone), bool)
            hopped[found] = lost[found]
            self.sums[:, 2] += lost
            self.sums[:, 3] += hopped
            self.entry[hopped, hazard.ages(seen.age[self.zone[hopped]])] += 1.0
            self.last = np.where(self.zone >= 0, self.zone, self.last)
        runs, waits = self.zone >= 0, self.zone < 0
        age = seen.age[self.zone]
        due = hazard.accrued(age + self.gap, UP_LAW) - hazard.accrued(age, UP_LAW)
        away = hazard.accrued(self.down_for + self.gap, DOWN_LAW) - hazard.accrued(self.down_for, DOWN_LAW)
        self.lost.add(lost, np.where(runs, due, 0.0))
        self.back.add(back, np.where(waits & (self.last >= 0), away, 0.0))
        self.down_for = np.where(waits, self.down_for + self.gap, 0.0)
        share = runs * self.gap / HOUR
        self.sums[:, 0] += share
        self.sums[:, 1] += share * price[self.zone] / price.min()

    def _launch(self, seen: Chronicle, tier: Ints, waiting: Ints) -> Ints:
        """Put waiting runners into the cheapest zones of their tiers, the oldest of equals; returns who found one."""
        open_to = (seen.up == UP) & (tier <= waiting[:, None])
        ranked = np.where(open_to, seen.price - 1e-7 * np.minimum(seen.age, 1e5), np.inf)
        best = ranked.argmin(axis=1)
        found = waiting[np.isfinite(ranked[np.arange(len(waiting)), best])]
        self.zone[found] = best[np.isin(waiting, found)]
        moved = found[self.last[found] >= 0]
        self.sums[moved, 4] += 1.0
        self.sums[moved, 5] += seen.egress[self.last[moved], self.zone[moved]]
        return np.asarray(found)

    def _tiers(self, price: Floats) -> Ints:
        if self._prices is None or not np.array_equal(price, self._prices):
            self._prices, self._tier = price, tiers(price)
        return self._tier

    def rides(self, price: Floats) -> tuple[Ride, ...]:
        """The record of every runner; a tier's prior is its cheapest price and a coin for hopping."""
        tier = self._tiers(price)
        up, down = self.lost.factor(), self.back.factor()
        return tuple(self._ride(k, tier <= k, price, float(up[k]), float(down[k])) for k in range(len(up)))

    def _ride(self, k: int, members: Bools, price: Floats, up: float, down: float) -> Ride:
        hours, premium, lost, hops, launches, egress = self.sums[k]
        alone = members.sum() < 2
        entry = self.entry[k] + np.eye(AGES)[0]
        return Ride(
            members=members,
            price=float((premium + 1.0) / (hours + 1.0) * price.min()),
            hop=0.0 if alone else float((hops + 0.5) / (lost + 1.0)),
            entry=entry / entry.sum(),
            up=up,
            down=down,
            egress=float(egress / max(launches, 1.0)),
            hours=float(hours),
        )
