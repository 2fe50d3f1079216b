"""Every offer of a class at once, as one job with its own limits sees it: sizes, costs and tiers as in shortlist.py.

Shapes are [P], P = lanes that can give the gang now.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dsched.scheduler.core.fleetplan.columns import CODE, Bools, Floats, Ints
from dsched.scheduler.core.fleetplan.group import Asked, Pick
from dsched.scheduler.core.fleetplan.lanes import Terms, finish
from dsched.scheduler.core.fleetplan.shelf import Shelf
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.units import HOUR, Moment
from dsched.scheduler.core.work import holds_work


class Seen(NamedTuple):
    """What a job finds. A refusal holds where it is the first that is true."""

    place: Ints  # [P] among the class's lanes
    rows: Ints  # [P]
    nodes: Ints  # [P]
    cost: Floats  # [P] micro-dollars to the end of the work; of an hour of it where it is not known
    boots: Bools  # [P] whether a machine of it must be bought
    over_cost: Bools  # [P]
    over_spot: Bools  # [P]
    over_budget: Bools  # [P]
    late: Bools  # [P]
    avoided: Bools  # [P] it failed this job lately
    cooling: Bools  # [P]
    done: Floats | None  # [P] market ms; None: the work is not known

    @property
    def possible(self) -> Bools:
        return ~(self.over_cost | self.over_spot | self.over_budget)


class Searcher:
    """Looks over all lanes for one job at a time."""

    def __init__(self, question: Question, policy: Policy, now: Moment, shelf: Shelf) -> None:
        self.question, self.policy, self.now, self.shelf = question, policy, now, shelf

    def look(self, asked: Asked) -> Seen:
        """All lanes that can give the gang now."""
        job, lanes, work, shelf = asked.job, asked.group.lanes, asked.work, self.shelf
        place = np.flatnonzero(shelf.had[lanes.rows] >= lanes.terms.nodes)
        rows = lanes.rows[place]
        idle = shelf.idle_count[rows]
        nodes = self._sizes(asked, place, rows, idle)
        terms = lanes.at(rows, nodes)
        boots = nodes > idle
        boot = np.where(boots, terms.boot, 0.0)
        cost = terms.rate if work is None else np.where(boots, terms.fixed, 0.0) + terms.carried + terms.rate * work
        nothing, limit = np.zeros(len(place), np.bool_), shelf.room.get(job.spec.budget)
        done = None if work is None else finish(terms, work, self.now.market, boots)
        deadline, unliked = job.spec.deadline, [shelf.columns.index.get(id, -1) for id in job.avoid]
        return Seen(
            place,
            rows,
            nodes,
            cost,
            boots,
            over_cost=nothing if asked.left is None else self._owed(asked, cost, terms, boot) > asked.left,
            over_spot=nothing if asked.spot_left is None else self._spot_used_up(asked, rows, terms, boot),
            over_budget=nothing if limit is None else self._aside(asked, rows, nodes) > limit,
            late=nothing if done is None or deadline is None else done > deadline,
            avoided=np.isin(rows, unliked) if unliked else nothing,
            cooling=lanes.risk.cooling[rows],
            done=done,
        )

    def choose(self, asked: Asked) -> Pick | None:
        """What shortlist.Shortlist would choose."""
        seen = self.look(asked)
        good = seen.possible & ~seen.late & ~seen.avoided & ~seen.cooling
        if good.any():
            chosen = self._prefer_idle(seen, good)
        elif (rest := seen.possible & ~seen.late).any():
            chosen = int(np.argmin(np.where(rest, seen.cost, np.inf)))
        elif seen.done is not None and holds_work(asked.job) and seen.possible.any():
            chosen = int(np.lexsort((seen.cost, np.where(seen.possible, seen.done, np.inf)))[0])
        else:
            return None
        return Pick(int(seen.rows[chosen]), int(seen.nodes[chosen]), int(seen.place[chosen]))

    def _prefer_idle(self, seen: Seen, good: Bools) -> int:
        best = int(np.argmin(np.where(good, seen.cost, np.inf)))
        ready = np.where(good & ~seen.boots, seen.cost, np.inf)
        first = int(np.argmin(ready))
        near = ready[first] <= seen.cost[best] * self.policy.reuse_premium
        return first if near and ready[first] < np.inf else best

    def _owed(self, asked: Asked, cost: Floats, terms: Terms, boot: Floats) -> Floats:
        """What the job's own limit must cover, as a charge (feasible.over_cost_max). [P]"""
        if asked.work is None:
            return (terms.price * self.question.market(self.policy.lease)).astype(np.float64)
        return np.rint(cost - terms.burden * (boot + asked.work / terms.pace)) * HOUR

    def _aside(self, asked: Asked, rows: Ints, nodes: Ints) -> Ints:
        """What its budget must set aside yet (placement.aside). [P]"""
        lanes, budget = asked.group.lanes, asked.job.spec.budget
        part = lanes.ceiling(rows, nodes) * lanes.lease
        more: Ints = np.maximum(0, part * nodes - self.shelf.ahead(budget, rows, nodes, part))
        return more

    def _spot_used_up(self, asked: Asked, rows: Ints, terms: Terms, boot: Floats) -> Bools:
        """Where spot is used up by the job's own limit (feasible.over_spot_share). [P]"""
        assert asked.spot_left is not None, "the caller has looked"
        hours = 0.0 if asked.work is None else boot + asked.work / terms.pace
        allowed = asked.spot_left / HOUR + hours * terms.nodes * asked.job.spec.need.spot_share
        spot: Bools = self.shelf.columns.market[rows] == CODE[Market.SPOT]
        return (allowed <= 0) & spot

    def _sizes(self, asked: Asked, place: Ints, rows: Ints, idle: Ints) -> Ints:
        """The smallest gang that makes the deadline (rank.best_size); where none does, the fastest. [P]"""
        lanes, work, deadline = asked.group.lanes, asked.work, asked.job.spec.deadline
        least = nodes = lanes.terms.nodes[place].copy()
        if deadline is None or work is None:
            return nodes
        now = self.now.market
        most = np.minimum(lanes.most[place], self.shelf.had[rows])

        def done(which: Ints, size: Ints) -> Floats:
            return finish(lanes.at(rows[which], size), work, now, size > idle[which])

        late = np.flatnonzero(done(np.arange(len(rows)), nodes) > deadline)
        grow = late[most[late] > nodes[late]]
        nodes = nodes.copy()
        stuck = late[most[late] <= nodes[late]]
        while len(grow):
            nodes[grow] += 1
            still = done(grow, nodes[grow]) > deadline
            full = nodes[grow] >= most[grow]
            stuck = np.concatenate((stuck, grow[still & full]))
            grow = grow[still & ~full]
        while len(stuck):
            half = nodes[stuck] // 2
            faster = (half >= least[stuck]) & (done(stuck, np.maximum(half, 1)) < done(stuck, nodes[stuck]))
            nodes[stuck[faster]] = half[faster]
            stuck = stuck[faster]
        return nodes
