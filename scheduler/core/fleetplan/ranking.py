"""The offers of one class from the cheapest hour up, for jobs that only look at the head.

Within a pass capacity only falls: what is gone is taken out for good, and a look costs as many steps as there are
offers whose hour is cheap enough to make up for what getting there costs. Offers are unpacked from the arrays a slice
at a time, since few classes ever come to their end.
"""

from __future__ import annotations

import math
from typing import Final, Protocol

import numpy as np

from dsched.scheduler.core.fleetplan.columns import Floats, Ints
from dsched.scheduler.core.fleetplan.lanes import Lanes

SLICE: Final = 128  # offers unpacked at first; each further slice doubles what is there


class Limits(Protocol):
    """What one job alone forbids (limits.py)."""

    search: bool  # only a search of the columns can tell

    def bar(self, place: int, row: int, cost: float) -> bool: ...


class Ranking:
    """Places among a class's lanes by their cost per hour of work. Lists have one entry per offer unpacked."""

    def __init__(self, lanes: Lanes, plain: Ints) -> None:
        terms = lanes.terms
        order = np.argsort(terms.rate[plain], kind="stable")
        self._lanes = lanes
        self._order: Ints = plain[order]  # [P]
        fixed = terms.fixed[self._order] + terms.carried[self._order]
        self._least: Floats = np.minimum.accumulate(fixed[::-1])[::-1]  # [P] of this and all that are dearer per hour
        self._fixed: Floats = fixed
        self.count = len(order)
        rate = terms.rate[self._order]
        self.gap = float(rate[len(rate) // 2] - rate[0]) if len(rate) else 0.0
        """Micro-dollars per hour of work between the best offer and the one in the middle."""
        self.place: list[int] = []
        self.row: list[int] = []
        self.nodes: list[int] = []
        self.rate: list[float] = []
        self.fixed: list[float] = []
        self.least: list[float] = []
        self.after: list[int] = [0]  # what comes after each that is left; the first entry is before the head

    @property
    def unpacked(self) -> int:
        return len(self.place)

    def unpack(self) -> bool:
        """One more slice. False: there is none."""
        begin = self.unpacked
        end = min(self.count, max(SLICE, 2 * begin))
        if begin == end:
            return False
        part, terms = self._order[begin:end], self._lanes.terms
        self.place += part.tolist()
        self.row += self._lanes.rows[part].tolist()
        self.nodes += terms.nodes[part].tolist()
        self.rate += terms.rate[part].tolist()
        self.fixed += self._fixed[begin:end].tolist()
        self.least += self._least[begin:end].tolist()
        self.after += range(begin + 1, end + 1)
        return True

    def best(self, work: float | None, had: Ints, limits: Limits | None) -> int | None:
        """The entry that costs least among what is left and not barred; equals by name. None: there is none."""
        had_at, after, rows, nodes, places = had.item, self.after, self.row, self.nodes, self.place
        rate, fixed, least = self.rate, self.fixed, self.least
        hours, counts = (1.0, 0.0) if work is None else (work, 1.0)  # without known work only the hour counts
        best, lowest, before, at = None, math.inf, 0, after[0]
        while at < len(rows) or self.unpack():
            if had_at(rows[at]) < nodes[at]:
                at = after[before] = after[at + 1]
                continue
            hourly = rate[at] * hours
            if hourly + least[at] * counts > lowest:
                break
            cost = hourly + fixed[at] * counts
            if cost < lowest or (cost == lowest and best is not None and places[at] < places[best]):
                if limits is None or not limits.bar(places[at], rows[at], cost):
                    best, lowest = at, cost
                elif limits.search:
                    return None
            before = at + 1
            at = after[before]
        return best
