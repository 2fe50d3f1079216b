"""Many jobs against many offers in one pass: classes instead of jobs, columns instead of rows.

Every class of jobs is valued against all offers at once (lanes.py) and keeps a ranking with a head that only moves
forward, since within a pass capacity only falls. A job without limits of its own looks at the head and takes it; one
with a deadline, a limit or bad memories is searched for over the columns. What is chosen is what the row by row
planner of shortlist.py would choose at the same point; the reasons are written by it, and only when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from dsched.scheduler.core.fleetplan.columns import CODE, PLENTY, Bools, Columns, Floats, Ints, risk
from dsched.scheduler.core.fleetplan.group import Asked, Group, Pick
from dsched.scheduler.core.fleetplan.lanes import Class, Lanes, Terms, finish
from dsched.scheduler.core.fleetplan.limits import Limits
from dsched.scheduler.core.fleetplan.order import crowded
from dsched.scheduler.core.fleetplan.turn import rank
from dsched.scheduler.core.hold import Hold
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.placement import Placement, Policy, Question, aside
from dsched.scheduler.core.quota import claimed
from dsched.scheduler.core.rank import Luggage, luggage
from dsched.scheduler.core.share import Line, Waiting
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.units import HOUR, Charge, MicroUsdPerHour, Millis, Moment
from dsched.scheduler.core.work import holds_work, money_left, work_left

EMPTY: Final = Luggage()
NOWHERE: Final[frozenset[int]] = frozenset()


class Crowd:
    """What is left to give, and what was decided so far."""

    def __init__(self, question: Question, policy: Policy, now: Moment) -> None:
        self.question, self.policy, self.now = question, policy, now
        columns = question.columns if isinstance(question.columns, Columns) else None
        self.columns = columns = columns or Columns.of(question.offers)
        self.risk = risk(columns, question.pools, policy, now.market)
        self.idle = {columns.index[id]: sorted(set(n)) for id, n in question.idle.items() if id in columns.index}
        self.idle_count = np.zeros(len(columns.ids), np.int64)  # [O]
        for row, names in self.idle.items():
            self.idle_count[row] = len(names)
        free = columns.free if columns.offers is question.offers else _free(columns, question)
        self.had: Ints = np.where(self.risk.cooling & (free < PLENTY), 0, free) + self.idle_count
        self.had[self.risk.cooling] = self.idle_count[self.risk.cooling]
        self.room = dict(question.room)
        self._quotas = [one.left for one in question.quotas]
        self._drawn = self._draws()  # [O] each: what a node takes of it; 0: nothing
        for number in range(len(self._quotas)):
            self._cap(number)
        self.placements: list[Placement] = []
        self.seen: dict[str, int] = {}  # job -> placements before it was looked at
        self.same: dict[str, str] = {}  # job -> the earlier job whose report is also its own
        self._groups: dict[Class, Group] = {}
        self._sample = _sample(question, columns)
        self._nothing: dict[tuple[object, ...], str] = {}  # numbers for which nothing was found -> first such job

    def _draws(self) -> list[Ints]:
        """[Q][O]: what a node of each offer takes of each quota."""
        drawn = [np.zeros(len(self.columns.ids), np.int64) for _ in self._quotas]
        offers = dict(zip(self.columns.ids, self.columns.rows, strict=True))
        for row, claims in enumerate(claimed(self.question.quotas, offers).values()):
            for claim in claims:
                drawn[claim.number][row] = claim.each
        return drawn

    def _cap(self, number: int) -> None:
        """No more can be had than a quota leaves."""
        each = self._drawn[number]
        rows = np.flatnonzero(each)
        self.had[rows] = np.minimum(self.had[rows], self.idle_count[rows] + self._quotas[number] // each[rows])

    def serve(self) -> bool:
        """Place the question's jobs, each in its turn. Whether jobs are left because the pass was long enough."""
        most = self.policy.placements_max
        line = Line(self._waiting(), self.question.shares)
        for one in line:
            if len(self.placements) >= most:
                return True
            if (placed := self.place(one)) is not None:
                line.served(one.job.spec.user, placed.price)
        return False

    def _waiting(self) -> Iterator[Waiting[Asked]]:
        """The queue, in the order of what each would lose by coming late."""
        queue = [self.asked(job) for job in self.question.jobs]
        lost = [asked.group.ranking.gap * (1.0 if asked.work is None else asked.work) for asked in queue]
        works = [asked.work for asked in queue]
        for turn, at in enumerate(crowded(self.question.jobs, lost, works, self.policy, self.now).tolist()):
            asked = queue[at]
            yield Waiting(rank(asked.job), (turn,), asked.job.spec.user, asked)

    def asked(self, job: Job) -> Asked:
        spec = job.spec
        fresh = not job.checkpoint_at and job.write is None and spec.need.spot_share >= 1.0
        bag = EMPTY if fresh else luggage(job)
        of = Class(
            spec.need, job.places or spec.need.places, spec.checkpoint.every, spec.drain, bag.write, bag.at, bag.size
        )
        group = self._groups.get(of)
        if group is None:
            lanes = Lanes(of, self.columns, self.risk, self._sample, self.policy, self.now)
            group = self._groups[of] = Group(lanes, self.had, self.idle_count)
        return Asked(job, group, work_left(job, self.question), money_left(job), bag.spot_left)

    def place(self, asked: Asked) -> Placement | None:
        """Decide for one job."""
        job, group = asked.job, asked.group
        self.seen[job.id] = len(self.placements)
        if group.blocked:
            self.same[job.id] = group.blocked
            return None
        numbers = self._numbers(asked) if self._nothing else ()
        if numbers and (first := self._nothing.get(numbers)):
            self.same[job.id] = first
            return None
        pick = self._pick(asked)
        if pick is None:
            self._refuse(asked)
            return None
        placement = self._placement(asked, pick)
        self._take(pick, placement)
        return placement

    # -- choosing --------------------------------------------------------------------------------------------------

    def _pick(self, asked: Asked) -> Pick | None:
        group = asked.group
        if group.ours:
            group.ours = [row for row in group.ours if self.idle_count[row] > 0]
            if group.ours:
                return self._search(asked)
            group.open(self.had)  # what is left there is bought like anywhere else
        ranking = group.ranking
        limits = self._limits(asked) if self._limited(asked) else None
        best = ranking.best(asked.work, self.had, limits)
        if best is not None:
            return Pick(ranking.row[best], ranking.nodes[best], ranking.place[best])
        return self._search(asked) if limits is not None or not ranking.count else None

    def _limited(self, asked: Asked) -> bool:
        spec = asked.job.spec
        return (
            spec.deadline is not None
            or asked.left is not None
            or asked.spot_left is not None
            or bool(asked.job.avoid)
            or self.room.get(spec.budget) is not None
        )

    def _limits(self, asked: Asked) -> Limits:
        job, index = asked.job, self.columns.index
        return Limits(
            asked,
            room=self.room.get(job.spec.budget),
            avoid={index.get(id, -1) for id in job.avoid} if job.avoid else NOWHERE,
            lease=self.question.market(self.policy.lease),
            now=self.now.market,
        )

    def _search(self, asked: Asked) -> Pick | None:
        """Every offer of the class at once, with sizes, limits and tiers as shortlist.Shortlist judges them."""
        job, group, work, left, spot_left = asked
        lanes = group.lanes
        place = np.flatnonzero(self.had[lanes.rows] >= lanes.terms.nodes)  # [P]
        if not len(place):
            return None
        rows = lanes.rows[place]
        idle = self.idle_count[rows]
        nodes = self._sizes(asked, place, rows, idle)
        terms = lanes.at(rows, nodes)
        boots = nodes > idle
        cost = terms.rate if work is None else np.where(boots, terms.fixed, 0.0) + terms.carried + terms.rate * work
        possible = np.ones(len(place), np.bool_)
        boot = np.where(boots, terms.boot, 0.0)
        if left is not None:
            possible &= self._owed(asked, cost, terms, boot) <= left
        if spot_left is not None:
            possible &= self._spot_allowed(asked, rows, terms, boot)
        if (room := self.room.get(job.spec.budget)) is not None:
            reserve = lanes.ceiling(rows, nodes) * nodes * lanes.lease
            possible &= np.maximum(0, reserve - self._ahead(job.spec.budget, rows, nodes)) <= room
        done = None if work is None else finish(terms, work, self.now.market, boots)
        late = np.zeros(len(place), np.bool_)
        if done is not None and job.spec.deadline is not None:
            late = done > job.spec.deadline
        avoided = lanes.risk.cooling[rows] | np.isin(rows, [self.columns.index.get(id, -1) for id in job.avoid])
        good = possible & ~late & ~avoided
        if good.any():
            chosen = self._prefer_idle(cost, good, ~boots)
        elif (rest := possible & ~late).any():
            chosen = int(np.argmin(np.where(rest, cost, np.inf)))
        elif done is not None and holds_work(job) and possible.any():
            chosen = int(np.lexsort((cost, np.where(possible, done, np.inf)))[0])
        else:
            return None
        return Pick(int(rows[chosen]), int(nodes[chosen]), int(place[chosen]))

    def _owed(self, asked: Asked, cost: Floats, terms: Terms, boot: Floats) -> Floats:
        """What the job's own limit must cover, as a charge (feasible.over_cost_max). [F]"""
        if asked.work is None:
            return (terms.price * self.question.market(self.policy.lease)).astype(np.float64)
        return np.rint(cost - terms.burden * (boot + asked.work / terms.pace)) * HOUR

    def _ahead(self, budget: str, rows: Ints, nodes: Ints) -> Ints:
        """What the leases of idle nodes that such gangs would take have set aside already (placement.aside). [P]"""
        ahead = np.zeros(len(rows), np.int64)
        for place in np.flatnonzero(self.idle_count[rows]) if self.question.promised else ():
            names = self.idle[int(rows[place])][: int(nodes[place])]
            told = (self.question.promised[name] for name in names if name in self.question.promised)
            ahead[place] = sum(one.charge for one in told if one.budget == budget)
        return ahead

    def _spot_allowed(self, asked: Asked, rows: Ints, terms: Terms, boot: Floats) -> Bools:
        """Where spot is not used up by the job's own limit (feasible.over_spot_share). [F]"""
        assert asked.spot_left is not None
        hours = 0.0 if asked.work is None else boot + asked.work / terms.pace
        allowed = asked.spot_left / HOUR + hours * terms.nodes * asked.job.spec.need.spot_share
        elsewhere: Bools = self.columns.market[rows] != CODE[Market.SPOT]
        return (allowed > 0) | elsewhere

    def _prefer_idle(self, cost: Floats, good: Bools, ours: Bools) -> int:
        best = int(np.argmin(np.where(good, cost, np.inf)))
        ready = np.where(good & ours, cost, np.inf)
        first = int(np.argmin(ready))
        return first if ready[first] <= cost[best] * self.policy.reuse_premium and ready[first] < np.inf else best

    def _sizes(self, asked: Asked, place: Ints, rows: Ints, idle: Ints) -> Ints:
        """The smallest gang that makes the deadline (rank.best_size); where none does, the fastest. [P]"""
        lanes, work, deadline = asked.group.lanes, asked.work, asked.job.spec.deadline
        least = nodes = lanes.terms.nodes[place].copy()
        if deadline is None or work is None:
            return nodes
        now = self.now.market
        most = np.minimum(lanes.most[place], self.had[rows])

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

    # -- taking ----------------------------------------------------------------------------------------------------

    def _placement(self, asked: Asked, pick: Pick) -> Placement:
        job, lanes = asked.job, asked.group.lanes
        row, nodes, place = pick
        offer, spec = self.columns.rows[row], job.spec
        if nodes == lanes.terms.nodes.item(place):
            group = asked.group
            top, reserve, every = group.ceiling.item(place), group.reserve.item(place), lanes.terms.every.item(place)
        else:
            every = lanes.interval(row, nodes)
            top = int(lanes.ceiling(np.array([row]), np.array([nodes]))[0])
            reserve = top * nodes * lanes.lease
        reuse = tuple(self.idle[row][:nodes]) if row in self.idle else ()
        return Placement(
            job=job.id,
            generation=job.generation,
            pool=offer.pool,
            nodes=nodes,
            reuse=reuse,
            buy=nodes - len(reuse),
            gpus=nodes * offer.shape.gpus,
            world_size=nodes * spec.ranks_per_node,
            price=MicroUsdPerHour(self.columns.price.item(row) * nodes),
            price_max=MicroUsdPerHour(top),
            budget=spec.budget,
            reserve=Charge(reserve),
            checkpoint_every=Millis(max(1, round(every / self.question.scale))),
        )

    def _take(self, pick: Pick, placement: Placement) -> None:
        row = pick.row
        self.had[row] -= pick.nodes
        if placement.reuse:
            self.idle[row] = self.idle[row][len(placement.reuse) :]
            self.idle_count[row] -= len(placement.reuse)
        room = self.room.get(placement.budget)
        if room is not None:
            more = aside(self.question.promised, placement.budget, placement.reserve, placement.reuse)
            self.room[placement.budget] = Charge(room - more)
        for number, drawn in enumerate(self._drawn):
            if placement.buy and drawn[row]:
                self._quotas[number] -= placement.buy * int(drawn[row])
                self._cap(number)
        self.placements.append(placement)

    def _refuse(self, asked: Asked) -> None:
        """Nothing for this job: nor for its equals behind it, since stock only falls."""
        job, group = asked.job, asked.group
        lanes = group.lanes
        if not (self.had[lanes.rows] >= lanes.terms.nodes).any():
            group.blocked = job.id
        else:
            self._nothing[self._numbers(asked)] = job.id

    def _numbers(self, asked: Asked) -> tuple[object, ...]:
        job = asked.job
        spec = job.spec
        return (id(asked.group), *asked[2:], spec.deadline, job.avoid, spec.budget, holds_work(job))


def _free(columns: Columns, question: Question) -> Ints:
    """What is free by the question's own word, where that is not what the columns were made of."""
    free = columns.free.copy()
    for id, row in columns.index.items():
        offer = question.offers[id]
        if offer is not columns.rows[row]:
            free[row] = PLENTY if offer.free is None else max(0, offer.free)
    return free


def _sample(question: Question, columns: Columns) -> Question:
    """The question with one offer per shape: all that a reference speed depends on."""
    first = {offer.shape.name: offer for offer in reversed(columns.rows)}
    return Question(
        jobs=(),
        offers={offer.pool.id: offer for offer in first.values()},
        scale=question.scale,
        accelerators=question.accelerators,
        speeds=question.speeds,
    )
