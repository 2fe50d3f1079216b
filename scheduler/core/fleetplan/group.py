"""The jobs of one class in a crowd: what they see, and what each asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from dsched.scheduler.core.fleetplan.columns import Ints
from dsched.scheduler.core.fleetplan.lanes import Lanes
from dsched.scheduler.core.fleetplan.ranking import Ranking
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.units import Charge, Millis


class Pick(NamedTuple):
    """An offer for a gang."""

    row: int
    nodes: int
    place: int  # among the class's lanes


class Lease(NamedTuple):
    """What is set aside for a gang, and how often it saves."""

    ceiling: int  # micro-dollars per hour that a node may come to cost
    reserve: int  # charge of the whole gang
    every: float  # market ms between checkpoints


class Group:
    """The jobs of one class: what they see, and how far they have used it up."""

    def __init__(self, lanes: Lanes, had: Ints, idle: Ints) -> None:
        rows, terms = lanes.rows, lanes.terms
        self.lanes = lanes
        self.ours: list[int] = rows[idle[rows] > 0].tolist()  # rows with nodes of ours, as long as there are any
        self.open(had)
        self.ceiling: Ints = lanes.ceiling(rows, terms.nodes)  # [F]
        self.reserve: Ints = self.ceiling * terms.nodes * lanes.lease  # [F] charge of a first lease
        self.elastic = bool((lanes.most > terms.nodes).any())  # whether a deadline may make a gang grow
        self.blocked = ""  # the job that first found nothing at all

    def open(self, had: Ints) -> None:
        """Look at all that can be had now."""
        rows, terms = self.lanes.rows, self.lanes.terms
        plain: Ints = np.flatnonzero(~self.lanes.risk.cooling[rows] & (had[rows] >= terms.nodes))  # [P] places
        self.ranking = Ranking(self.lanes, plain)

    def first_lease(self, pick: Pick) -> Lease:
        """Of one gang."""
        if self.elastic and pick.nodes != self.lanes.terms.nodes.item(pick.place):  # a deadline made it larger
            ceiling = int(self.lanes.ceiling(np.array([pick.row]), np.array([pick.nodes]))[0])
            return Lease(ceiling, ceiling * pick.nodes * self.lanes.lease, self.lanes.interval(pick.row, pick.nodes))
        place = pick.place
        return Lease(self.ceiling.item(place), self.reserve.item(place), self.lanes.terms.every.item(place))

    def first_leases(self, picks: Sequence[Pick]) -> Iterable[tuple[int, int, float]]:
        """Of many: looked up at once unless a deadline may have made some larger."""
        if self.elastic:
            return map(self.first_lease, picks)
        at = np.array([pick.place for pick in picks], np.int64)
        lists = (self.ceiling[at].tolist(), self.reserve[at].tolist(), self.lanes.terms.every[at].tolist())
        return zip(*lists, strict=True)


class Asked(NamedTuple):
    """One job's own numbers."""

    job: Job
    group: Group
    work: float | None  # reference hours
    left: Charge | None  # of its own limit
    spot_left: Millis | None  # machine time on spot that its limit leaves
    bound: bool  # whether it has limits of its own, or of its budget
