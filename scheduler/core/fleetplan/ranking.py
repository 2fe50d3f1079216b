"""The offers of one class from the cheapest hour up, for jobs that only look at the head.

Within a pass capacity only falls: what is gone is taken out for good, and a look costs as many steps as there are
offers whose hour is cheap enough to make up for what getting there costs. Offers are unpacked from the arrays a slice
at a time, without those that are gone by then, since few classes ever come to their end.
"""

from __future__ import annotations

import math
from typing import Final, Protocol

import numpy as np

from dsched.scheduler.core.fleetplan.columns import Floats, Ints
from dsched.scheduler.core.fleetplan.lanes import Lanes

SLICE: Final = 128  # offers unpacked at a time
SLACK: Final = 1.0 + 1e-12  # so that rounding hides no offer that costs the same


class Limits(Protocol):
    """What one job alone forbids (limits.py)."""

    search: bool  # only a search of the columns can tell

    def bar(self, place: int, row: int, cost: float) -> bool: ...


class Ranking:
    """Places among a class's lanes by their cost per hour of work. Lists have one entry per offer unpacked."""

    def __init__(self, lanes: Lanes, plain: Ints) -> None:
        terms = lanes.terms
        hourly = terms.rate[plain]
        order = _sorted(hourly)
        self._places: Ints = plain[order]  # [P]
        self._rows: Ints = lanes.rows[self._places]  # [P]
        self._nodes: Ints = terms.nodes[self._places]  # [P]
        self._rate: Floats = hourly[order]  # [P]
        self._fixed: Floats = terms.fixed[self._places] + terms.carried[self._places]  # [P]
        self._floor = float(self._fixed.min()) if len(order) else 0.0  # getting anywhere costs as much
        self._next = 0  # [P] to be unpacked
        self.count = len(order)
        self.gap = float(self._rate[self.count // 2] - self._rate[0]) if self.count else 0.0
        """Micro-dollars per hour of work between the best offer and the one in the middle."""
        self.place: list[int] = []
        self.row: list[int] = []
        self.nodes: list[int] = []
        self.rate: list[float] = []
        self.fixed: list[float] = []
        self.after: list[int] = [0]  # what comes after each that is left; the first entry is before the head

    def best(self, work: float | None, had: Ints, limits: Limits | None) -> int | None:
        """The entry that costs least among what is left and not barred; equals by name. None: there is none.

        A dearer hour is made up for only by getting there for less, and by no more than `_floor` allows.
        """
        had_at, after, rows, nodes, rate, fixed = had.item, self.after, self.row, self.nodes, self.rate, self.fixed
        hours, known = (1.0, False) if work is None else (work, True)
        best, lowest, before, at, count = None, math.inf, 0, after[0], len(rows)
        dearest = least = math.inf  # the hour above which nothing can be better; what the best so far costs to get to
        while True:
            if at == count:
                if not self._unpack(had):
                    return best
                at, count = after[before], len(rows)
            hourly = rate[at]
            if hourly > dearest:
                return best
            if fixed[at] < least:
                if had_at(rows[at]) < nodes[at]:
                    at = after[before] = after[at + 1]
                    continue
                cost = hourly * hours + fixed[at] if known else hourly
                if cost < lowest or (cost == lowest and best is not None and self.place[at] < self.place[best]):
                    if limits is None or not limits.bar(self.place[at], rows[at], cost):
                        if not known:
                            return at  # only the hour counts
                        best, lowest, least = at, cost, fixed[at]
                        dearest = (cost - self._floor) / hours * SLACK if hours else math.inf
                    elif limits.search:
                        return None
            before = at + 1
            at = after[before]

    def _unpack(self, had: Ints) -> bool:
        """One more slice, of what is left of it. False: there is none."""
        while self._next < self.count:
            part = slice(self._next, self._next + SLICE)
            self._next += SLICE
            left = had[self._rows[part]] >= self._nodes[part]
            begin = len(self.row)
            self.place += self._places[part][left].tolist()
            self.row += self._rows[part][left].tolist()
            self.nodes += self._nodes[part][left].tolist()
            self.rate += self._rate[part][left].tolist()
            self.fixed += self._fixed[part][left].tolist()
            self.after += range(begin + 1, len(self.row) + 1)
            if len(self.row) > begin:
                return True
        return False


def _sorted(values: Floats) -> Ints:
    """The order from the least up, equals as they come: a stable sort takes five times as long and is seldom needed."""
    order: Ints = np.argsort(values)
    ranked = values[order]
    equals = ranked[1:] == ranked[:-1]
    return np.argsort(values, kind="stable") if equals.any() else order
