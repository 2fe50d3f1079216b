"""What one job alone forbids: its deadline, its own limit, its budget's room and pools it has bad memories of.

Offers are asked about one by one, the cheapest first, since mostly the first will do. When many will not, or a larger
gang might, the columns are searched instead.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from dsched.scheduler.core.fleetplan.columns import CODE
from dsched.scheduler.core.fleetplan.group import Asked
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.units import HOUR, Charge, Instant, Millis

PATIENCE: Final = 64  # offers barred before the columns are searched, which takes as long as about so many looks


class Limits:
    """Of one job at its turn. `search`: only a search of the columns can tell."""

    def __init__(self, asked: Asked, *, room: Charge | None, avoid: Set[int], lease: Millis, now: Instant) -> None:
        self._asked, self._room, self._avoid, self._lease = asked, room, avoid, lease
        deadline = asked.job.spec.deadline
        self._hours = None if deadline is None else (deadline - now + 0.5) / HOUR  # to the deadline
        self._barred = 0
        self.search = False

    def bar(self, place: int, row: int, cost: float) -> bool:
        """Whether it may not run there. `cost`: micro-dollars of the whole job."""
        barred = row in self._avoid or self._dear(place, cost) or self._late(place)
        if not barred and self._asked.spot_left is not None:
            barred = not self._spot_allowed(place, row)
        self._barred += barred
        self.search = self.search or self._barred > PATIENCE
        return barred

    def _late(self, place: int) -> bool:
        work, group = self._asked.work, self._asked.group
        if self._hours is None or work is None:
            return False
        terms = group.lanes.terms
        late = work / terms.pace.item(place) + terms.boot.item(place) > self._hours
        self.search = self.search or (late and group.elastic)  # a larger gang there might be in time
        return late

    def _dear(self, place: int, cost: float) -> bool:
        left, group = self._asked.left, self._asked.group
        if self._room is not None and group.reserve.item(place) > self._room:
            return True
        if left is None:
            return False
        if self._asked.work is None:
            return group.lanes.terms.price.item(place) * self._lease > left
        return round(cost - group.lanes.terms.burden.item(place) * self._machine(place)) * HOUR > left

    def _spot_allowed(self, place: int, row: int) -> bool:
        """feasible.over_spot_share."""
        spot_left, lanes = self._asked.spot_left, self._asked.group.lanes
        if spot_left is None or lanes.columns.market.item(row) != CODE[Market.SPOT]:
            return True
        hours = 0.0 if self._asked.work is None else self._machine(place)
        share = self._asked.job.spec.need.spot_share
        return spot_left / HOUR + hours * lanes.terms.nodes.item(place) * share > 0

    def _machine(self, place: int) -> float:
        """Hours from asking to the end of the work, which is known."""
        terms = self._asked.group.lanes.terms
        return terms.boot.item(place) + (self._asked.work or 0.0) / terms.pace.item(place)
