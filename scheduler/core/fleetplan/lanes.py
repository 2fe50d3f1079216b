"""What every offer costs one class of jobs, as two numbers per offer: what getting there costs, and an hour of work.

Expected cost is linear in the work that is left: `carried + fixed + rate * hours`. So one row of arrays serves all
jobs of a class, however much work each of them has. The arithmetic is that of rank.value, offer by offer; a property
test compares the two. Shapes are [F], F = offers that the class could use; micro-dollars, market hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

import numpy as np

from dsched.scheduler.core import changeover, feasible, hold, power, rank
from dsched.scheduler.core.fleetplan.columns import CODE, Bools, Columns, Floats, Ints, Risk
from dsched.scheduler.core.goodput import LEAST
from dsched.scheduler.core.hardware import Shape
from dsched.scheduler.core.job import Need
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.speed import fit, pace
from dsched.scheduler.core.units import HOUR, Instant, Millis, Moment

_EXPONENT_MAX: Final = 500.0  # goodput's own bound


class Class(NamedTuple):
    """What jobs share that see the same offers at the same cost per hour."""

    need: Need
    places: tuple[str, ...]
    every: Millis | None
    drain: Millis
    write: Millis | None  # wall: how long a checkpoint stalls it; None: not told
    at: str  # where its checkpoint lies
    size: float  # bytes of it


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """Costs of gangs: one entry per lane. Shapes are [F]. The costs hold what energy and carbon weigh, too."""

    nodes: Ints
    carried: Floats  # micro-dollars to bring the checkpoint there
    fixed: Floats  # micro-dollars from asking to the first step, if it must be bought; without `carried`
    rate: Floats  # micro-dollars per reference hour
    boot: Floats  # hours from asking to the first step
    pace: Floats  # reference hours of useful work per hour
    price: Ints  # of the gang, per hour
    burden: Floats  # micro-dollars per hour that nobody pays: energy and carbon by the policy's weights
    every: Floats  # market ms between checkpoints


class Lanes:
    """One class against all offers: a lane is a size of gang in a pool that could serve it.

    Without a model the smallest gang is the cheapest (rank.best_size), so each pool has one lane; of a model every
    size that fits is a lane.
    """

    def __init__(
        self, of: Class, columns: Columns, risk: Risk, question: Question, policy: Policy, now: Moment
    ) -> None:
        self.of, self.columns, self.risk = of, columns, risk
        self.question, self.policy, self.now = question, policy, now
        self.reference = rank.reference(of.need, question)
        sizes = [self._sizes(shape) for shape in columns.shapes]
        self.least: Ints = np.array([size[0] if size else 0 for size in sizes], np.int64)[columns.shape]
        """Nodes of the smallest gang; 0: there is none. [O]"""
        least = self.least
        fits = (least > 0) & self.wanted() & self.placed() & columns.known
        spot = columns.market == CODE[Market.SPOT]
        fits &= now.market - columns.quoted <= np.where(spot, policy.stale_after, policy.stale_list)
        fits &= ~self.ending()
        limit = of.need.price_max
        if limit is not None:
            fits &= least * columns.price <= limit
        rows = np.flatnonzero(fits)
        nodes, most = least[rows], np.array([size[-1] if size else 0 for size in sizes], np.int64)[columns.shape[rows]]
        self._speed = self._speeds(sizes)  # [S, nodes]
        if of.need.model is not None:
            rows, nodes = _lanes_of(rows, sizes, columns.shape)
            most = nodes
            if limit is not None:
                within = nodes * columns.price[rows] <= limit
                rows, nodes, most = rows[within], nodes[within], most[within]
        elif limit is not None:
            most = np.minimum(most, limit // np.maximum(1, columns.price[rows]))
        self.rows: Ints = rows  # [F]
        self.most: Ints = most  # [F] nodes up to which a deadline may make the gang grow
        self.terms = self.at(rows, nodes)

    def at(self, rows: Ints, nodes: Ints) -> Terms:
        """What gangs of so many nodes cost in these rows."""
        columns, policy, scale = self.columns, self.policy, self.question.scale
        hazard = nodes * self.risk.hazard[rows]
        every = self.every(hazard)
        stall = policy.write if self.of.write is None else self.of.write
        write = max(1, round(stall * scale))
        unwarned = np.where(columns.notice[rows] >= stall, np.minimum(hazard, nodes * policy.hazard_failure), hazard)
        wait = self.risk.wait[rows]
        restart = np.rint(np.maximum(policy.restart + columns.boot[rows], wait) * scale)
        share = _goodput(hazard, unwarned, restart, float(write), every)
        useful = self._speed[columns.shape[rows], nodes] / self.reference.speed * share
        price, boot = columns.price[rows] * nodes, np.rint(wait * scale) / HOUR
        burden = self._burden()[rows] * nodes
        paid = price + burden
        return Terms(nodes, self._carried()[rows], paid * boot, paid / useful, boot, useful, price, burden, every)

    def every(self, hazard: Floats) -> Floats:
        """Market ms between checkpoints: the job's own word, else Young's optimum within the policy's bound."""
        policy, scale = self.policy, self.question.scale
        if self.of.every is not None:
            return np.full(len(hazard), float(max(1, round(self.of.every * scale))))
        write = max(1, round((policy.write if self.of.write is None else self.of.write) * scale))
        longest = float(round(policy.checkpoint_max * scale))
        with np.errstate(divide="ignore"):
            between = np.maximum(1.0, np.rint(HOUR / hazard))
        best = np.maximum(1.0, np.rint(np.sqrt(2.0 * write * between)))
        return np.where(hazard > 0, np.minimum(max(1.0, longest), best), longest)

    def interval(self, row: int, nodes: int) -> float:
        """`every` for one gang."""
        return float(self.every(np.array([nodes * self.risk.hazard[row]]))[0])

    def ceiling(self, rows: Ints, nodes: Ints) -> Ints:
        """The most that a node may come to cost within a lease (rank.ceiling)."""
        price = self.columns.price[rows]
        risen = np.minimum(np.rint(price * self.policy.spot_ceiling), self.columns.on_demand[rows])
        spot = self.columns.market[rows] == CODE[Market.SPOT]
        top = np.where(spot, risen, price).astype(np.int64)
        if self.of.need.price_max is not None:
            top = np.minimum(top, self.of.need.price_max // nodes)
        return np.maximum(price, top)

    @property
    def lease(self) -> int:
        """Market ms that a first lease and its drain may last."""
        return self.question.market(Millis(self.policy.lease + self.of.drain))

    def _sizes(self, shape: Shape) -> tuple[int, ...]:
        """The gangs of a shape, smallest first; empty: none."""
        need = self.of.need
        if feasible.wrong_hardware(need, shape) is not None:
            return ()
        sizes = feasible.gang_sizes(need, shape, self.policy.nodes_max)
        if not isinstance(sizes, range):
            return ()
        return tuple(sizes) if need.model is None else fit.sizes(need.model, shape, sizes)

    def _speeds(self, sizes: Sequence[tuple[int, ...]]) -> Floats:
        """Of a gang, by shape and number of nodes, in the reference's unit. [S, N]"""
        need, columns = self.of.need, self.columns
        largest = max((size[-1] for size in sizes if size), default=0)
        if need.model is None:
            one = np.array([rank.speed(shape, need) for shape in columns.shapes], np.float64)
            return one[:, None] * np.arange(largest + 1)
        found = np.full((len(columns.shapes), largest + 1), self.reference.speed * LEAST)
        known = self.question.speeds.get(need.model.name)
        for number, shape in enumerate(columns.shapes):
            for nodes in sizes[number]:
                if (at := pace.pace(need, shape, nodes, known)) is not None:
                    found[number, nodes] = at.speed
        return found

    def _carried(self) -> Floats:
        """Micro-dollars to bring the checkpoint to each offer. [O]"""
        columns, of, routes = self.columns, self.of, self.policy.facts.egress
        if not of.size:
            return np.zeros(len(columns.ids))
        cost = {region: float(changeover.egress(routes, of.at, region, of.size)) for region in columns.regions}
        return np.array([cost[spot.region] for spot in columns.spots], np.float64)[columns.spot]

    def _burden(self) -> Floats:
        """Micro-dollars per hour and node that energy and carbon weigh. [O]"""
        columns, policy = self.columns, self.policy
        if not policy.energy_price and not policy.carbon_price:
            return np.zeros(len(columns.ids))
        drawn = [power.watts(shape, 1) for shape in columns.shapes]
        grams = {region: policy.facts.carbon.get(region.partition("/")[2]) for region in columns.regions}
        weight = {region: power.burden(1.0, carbon, policy) for region, carbon in grams.items()}  # of one watt
        per_watt = np.array([weight[spot.region] for spot in columns.spots], np.float64)
        each: Floats = np.array(drawn, np.float64)[columns.shape] * per_watt[columns.spot]
        return each

    def ending(self) -> Bools:
        """What is held for so short a time that going there is of no use (feasible.ends_soon)."""
        columns, restart, scale = self.columns, self.policy.restart, self.question.scale
        ending = np.isfinite(columns.until)
        for row in np.flatnonzero(ending):
            ending[row] = columns.until[row] - self.now.market < hold.least(columns.rows[row].boot, restart, scale)
        return ending

    def wanted(self) -> Bools:
        wanted = np.zeros(len(CODE), np.bool_)
        wanted[[CODE[market] for market in self.of.need.markets]] = True
        return wanted[self.columns.market]

    def placed(self) -> Bools:
        places = self.of.places
        if not places:
            return np.ones(len(self.columns.ids), np.bool_)
        fits = [any(fnmatchcase(name, place) for place in places for name in spot) for spot in self.columns.spots]
        return np.array(fits, np.bool_)[self.columns.spot]


def _goodput(hazard: Floats, unwarned: Floats, restart: Floats, write: float, every: Floats) -> Floats:
    """goodput.goodput over arrays [F]; times in market ms."""
    restarts = hazard * restart / HOUR
    segment = unwarned * (every + write) / HOUR
    hopeless = (restarts > _EXPONENT_MAX) | (segment > _EXPONENT_MAX)
    segment = np.minimum(segment, _EXPONENT_MAX)
    with np.errstate(invalid="ignore", divide="ignore"):
        kept = np.where(segment == 0, 1.0, segment / np.expm1(segment))
    share = np.exp(-np.minimum(restarts, _EXPONENT_MAX)) * (every / (every + write)) * kept
    return np.where(hopeless, LEAST, np.maximum(LEAST, share))


def _lanes_of(rows: Ints, sizes: Sequence[tuple[int, ...]], shape: Ints) -> tuple[Ints, Ints]:
    """Each row once per size of its shape: rows and nodes. [F]"""
    counts = np.array([len(size) for size in sizes], np.int64)[shape[rows]]
    nodes = [np.array(sizes[number], np.int64) for number in shape[rows]]
    return np.repeat(rows, counts), np.concatenate(nodes) if nodes else np.zeros(0, np.int64)


def finish(terms: Terms, hours: float, now: Instant, boots: Bools) -> Floats:
    """Market ms at which so much work would be done. [F]"""
    return now + np.rint((np.where(boots, terms.boot, 0.0) + hours / terms.pace) * HOUR)
