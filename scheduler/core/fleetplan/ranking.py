"""The cheapest offers of one class that are left, for jobs with about equal work.

A window is made for the least work of an octave. The best of it is the best of all as long as a bound holds: nothing
outside costs less than `outside` at that least work, nor less than `rest` for each hour more. When the bound fails or
the window is used up, a wider one is made of what is left.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from dsched.scheduler.core.fleetplan.columns import Floats, Ints
from dsched.scheduler.core.fleetplan.lanes import Lanes

FIRST: Final = 128  # offers in a window: looked at in microseconds, and a class seldom needs more
WIDER: Final = 4  # times as many where the bound failed
UNKNOWN: Final = -1_000  # the octave of jobs whose work nobody knows


def octave(work: float | None) -> int:
    """Jobs of one octave differ in their work, in hours, by less than a factor of two."""
    return UNKNOWN if work is None else math.frexp(max(work, 1e-9))[1] - 1


class Window:
    """Places among a class's lanes, and what a gang costs there. Shapes are [W]."""

    def __init__(self, lanes: Lanes, plain: Ints, number: int, had: Ints) -> None:
        self._lanes, self._plain, self._size = lanes, plain, FIRST
        self.known = number != UNKNOWN
        self.least = 2.0**number if self.known else 0.0  # hours
        self._fill(had)

    def renew(self, had: Ints, *, wider: bool) -> bool:
        """Make it of what is left now. False: it held all of that already."""
        if self.whole:
            return False
        if wider:
            self._size *= WIDER
        self._fill(had)
        return True

    def _fill(self, had: Ints) -> None:
        terms, rows = self._lanes.terms, self._lanes.rows
        left = self._plain[had[rows[self._plain]] >= terms.nodes[self._plain]]
        self._plain = left = left if len(left) else self._plain[:1]  # never empty: what is gone is gone
        low = terms.rate[left]
        if self.known:
            low = low * self.least + terms.fixed[left] + terms.carried[left]
        self.whole = len(left) <= self._size
        self.outside = self.rest = math.inf
        if not self.whole:
            part = np.argpartition(low, self._size)
            rest = part[self._size :]
            self.outside, self.rest = float(low[rest].min()), float(terms.rate[left[rest]].min())
            left = left[np.sort(part[: self._size])]  # in the order of names, which decides between equals
        self.place: Ints = left
        self.row: Ints = rows[left]
        self.nodes: Ints = terms.nodes[left]
        self.rate: Floats = terms.rate[left]
        self.boot: Floats = terms.boot[left]
        self.pace: Floats = terms.pace[left]
        self.fixed: Floats = terms.fixed[left] + terms.carried[left] if self.known else np.zeros(len(left))
