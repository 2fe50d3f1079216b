"""Many jobs against many offers in one pass: classes instead of jobs, columns instead of rows.

Every class of jobs is valued against all offers at once (lanes.py) and keeps a ranking with a head that only moves
forward, since within a pass capacity only falls. A job without limits of its own looks at the head and takes it; one
with a deadline, a limit or bad memories is searched for over the columns (search.py). What is chosen is what the row by
row planner of shortlist.py would choose at the same point; the reasons are written when somebody asks (told.py).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from dsched.scheduler.core.fleetplan.columns import Columns, risk
from dsched.scheduler.core.fleetplan.group import Asked, Group, Pick
from dsched.scheduler.core.fleetplan.lanes import Class, Lanes
from dsched.scheduler.core.fleetplan.limits import Limits
from dsched.scheduler.core.fleetplan.order import crowded
from dsched.scheduler.core.fleetplan.search import Searcher
from dsched.scheduler.core.fleetplan.shelf import Shelf
from dsched.scheduler.core.fleetplan.turn import rank
from dsched.scheduler.core.placement import Placement, Policy, Question
from dsched.scheduler.core.rank import Luggage, luggage
from dsched.scheduler.core.share import Line, Waiting
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.units import Charge, MicroUsdPerHour, Millis, Moment
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
        self.shelf = Shelf(question, columns, self.risk)
        self.taken: list[tuple[Asked, Pick, tuple[str, ...]]] = []  # who was given what, and machines of ours in it
        self.seen: dict[str, int] = {}  # job -> how many were given something before it was looked at
        self.same: dict[str, str] = {}  # job -> the earlier job whose report is also its own
        self._searcher = Searcher(question, policy, now, self.shelf)
        self._groups: dict[tuple[object, ...], Group] = {}  # by Class
        self._sample = _sample(question, columns)
        self._nothing: dict[tuple[object, ...], str] = {}  # numbers for which nothing was found -> first such job

    def serve(self) -> bool:
        """Give to the question's jobs, each in its turn. Whether jobs are left because the pass was long enough."""
        most, shares = self.policy.placements_max, self.question.shares
        queue = self._queue()
        line = Line((_waiting(turn, one) for turn, one in enumerate(queue)), shares) if shares else None
        for asked in line or queue:
            if len(self.taken) >= most:
                return True
            pick = self.place(asked)
            if pick is not None and line is not None:
                line.served(asked.job.spec.user, self.columns.price.item(pick.row) * pick.nodes)
        return False

    def _queue(self) -> list[Asked]:
        """In the order of what each would lose by coming late."""
        queue = [self.asked(job) for job in self.question.jobs]
        lost = [asked.group.ranking.gap * (1.0 if asked.work is None else asked.work) for asked in queue]
        works = [asked.work or 0.0 for asked in queue]
        return [queue[at] for at in crowded(self.question.jobs, lost, works, self.policy, self.now).tolist()]

    def asked(self, job: Job) -> Asked:
        spec = job.spec
        need, budget = spec.need, spec.budget
        fresh = not job.checkpoint_at and job.write is None and need.spot_share >= 1.0
        bag = EMPTY if fresh else luggage(job)
        of = (need, job.places or need.places, spec.checkpoint.every, spec.drain, bag.write, bag.at, bag.size)
        group = self._groups.get(of)
        if group is None:
            group = self._groups[of] = self._group(Class(*of))
        left, spot_left = money_left(job), bag.spot_left
        bound = spec.deadline is not None or left is not None or spot_left is not None or bool(job.avoid)
        bound = bound or self.shelf.room.get(budget) is not None
        return Asked(job, group, work_left(job, self.question), left, spot_left, bound)

    def place(self, asked: Asked) -> Pick | None:
        """Decide for one job."""
        name, group = asked.job.id, asked.group
        self.seen[name] = len(self.taken)
        if group.blocked:
            self.same[name] = group.blocked
            return None
        if self._nothing and (first := self._nothing.get(_numbers(asked))):
            self.same[name] = first
            return None
        pick = self._pick(asked)
        if pick is None:
            self._refuse(asked)
        else:
            self._take(asked, pick)
        return pick

    def placements(self) -> list[Placement]:
        """What was given so far; what a class has of numbers is looked up at once."""
        of: defaultdict[Group, list[int]] = defaultdict(list)  # class -> who was given something
        for number, (asked, _, _) in enumerate(self.taken):
            of[asked.group].append(number)
        made: dict[int, Placement] = {}
        for group, numbers in of.items():
            leases = group.first_leases([self.taken[number][1] for number in numbers])
            for number, (ceiling, reserve, every) in zip(numbers, leases, strict=True):
                made[number] = self._placement(*self.taken[number], ceiling, reserve, every)
        return [made[number] for number in range(len(self.taken))]

    def _placement(
        self, asked: Asked, pick: Pick, reuse: tuple[str, ...], ceiling: int, reserve: int, every: float
    ) -> Placement:
        job, (row, nodes, _) = asked.job, pick
        offer, spec = self.columns.rows[row], job.spec
        assert offer.quote is not None, "only what has a price is picked"
        return Placement(
            job.id,
            job.generation,
            offer.pool,
            nodes,
            reuse,
            nodes - len(reuse),
            nodes * offer.shape.gpus,
            nodes * spec.ranks_per_node,
            MicroUsdPerHour(offer.quote.price * nodes),
            MicroUsdPerHour(ceiling),
            spec.budget,
            Charge(reserve),
            Millis(max(1, round(every / self.question.scale))),
        )

    # -- choosing --------------------------------------------------------------------------------------------------

    def _group(self, of: Class) -> Group:
        lanes = Lanes(of, self.columns, self.risk, self._sample, self.policy, self.now)
        return Group(lanes, self.shelf.had, self.shelf.idle_count)

    def _pick(self, asked: Asked) -> Pick | None:
        group, shelf = asked.group, self.shelf
        if group.ours:
            group.ours = [row for row in group.ours if shelf.idle_count[row] > 0]
            if group.ours:
                return self._searcher.choose(asked)
            group.open(shelf.had)  # what is left there is bought like anywhere else
        ranking = group.ranking
        limits = self._limits(asked) if asked.bound else None
        best = ranking.best(asked.work, shelf.had, limits)
        if best is not None:
            return Pick(ranking.row[best], ranking.nodes[best], ranking.place[best])
        return self._searcher.choose(asked) if limits is not None or not ranking.count else None

    def _limits(self, asked: Asked) -> Limits:
        job, index = asked.job, self.columns.index
        return Limits(
            asked,
            room=self.shelf.room.get(job.spec.budget),
            avoid={index.get(id, -1) for id in job.avoid} if job.avoid else NOWHERE,
            lease=self.question.market(self.policy.lease),
            now=self.now.market,
        )

    # -- taking ----------------------------------------------------------------------------------------------------

    def _take(self, asked: Asked, pick: Pick) -> None:
        reserve = asked.group.first_lease(pick).reserve if asked.bound else 0  # only a limited budget wants to know
        reuse = self.shelf.take(pick.row, pick.nodes, asked.job.spec.budget, reserve)
        self.taken.append((asked, pick, reuse))

    def _refuse(self, asked: Asked) -> None:
        """Nothing for this job: nor for its equals behind it, since stock only falls."""
        job, group = asked.job, asked.group
        lanes = group.lanes
        if not (self.shelf.had[lanes.rows] >= lanes.terms.nodes).any():
            group.blocked = job.id
        else:
            self._nothing[_numbers(asked)] = job.id


def _waiting(turn: int, asked: Asked) -> Waiting[Asked]:
    return Waiting(rank(asked.job), (turn,), asked.job.spec.user, asked)


def _numbers(asked: Asked) -> tuple[object, ...]:
    job, group, work, left, spot_left, _ = asked
    spec = job.spec
    return (id(group), work, left, spot_left, spec.deadline, job.avoid, spec.budget, holds_work(job))


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
