"""What a decision in a large market keeps: the best offers with all their figures, the others counted by reason.

Ten thousand lines take a tenth of a second to write, ten megabytes to store, and nobody reads them. Who is counted and
who is told comes from the columns; the few that are told are judged by the row by row planner, in its words.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final

import numpy as np

from dsched.scheduler.core import feasible, report
from dsched.scheduler.core.fleetplan.columns import CODE, PLENTY, Bools, Floats, Ints
from dsched.scheduler.core.fleetplan.crowd import Crowd
from dsched.scheduler.core.fleetplan.group import Asked, Pick
from dsched.scheduler.core.fleetplan.lanes import Lanes
from dsched.scheduler.core.fleetplan.search import Searcher, Seen
from dsched.scheduler.core.fleetplan.shelf import Shelf
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.quota import claimed
from dsched.scheduler.core.report import Kept, Refusal, Report, Why
from dsched.scheduler.core.shortlist import Field, Shortlist, Stock
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.work import demand_of

KEPT: Final = 8  # lines of a brief report: what `dsched explain` shows without being asked for more
_WHY: Final = {why: number for number, why in enumerate(Why)}
_POSSIBLE: Final = len(_WHY)  # the code of an offer that would do


class Briefs:
    """Brief reports on one crowd's jobs, each as the stock was at its turn."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._lasting: dict[int, Counter[Why]] = {}  # by group: what no stock could change
        self._shelf, self._taken = self._full_shelf(), 0

    def report(self, job: Job, before: int) -> Report:
        """`before`: how many had been given something when its turn came."""
        crowd = self._crowd
        asked = crowd.asked(job)
        self._turn_back(before)
        taken = crowd.taken[before] if before < len(crowd.taken) else None
        pick = taken[1] if taken is not None and taken[0].job is job else None
        lanes = asked.group.lanes
        cost, codes = self._judged(asked)
        if pick is not None:
            codes[pick.place] = _POSSIBLE  # perhaps as a last resort
        told = self._told(lanes.rows, cost, codes, pick)
        made = self._lines(asked, told, pick)
        counts = self._refused_for_good(asked) + _counted(codes)
        possible = int((codes == _POSSIBLE).sum())
        return report.brief(made, job.spec.need, counts, Kept(len(crowd.columns.ids), possible))

    def _full_shelf(self) -> Shelf:
        crowd = self._crowd
        return Shelf(crowd.question, crowd.columns, crowd.risk)

    def _turn_back(self, before: int) -> None:
        if before < self._taken:
            self._shelf, self._taken = self._full_shelf(), 0
        for asked, pick, _ in self._crowd.taken[self._taken : before]:
            reserve = asked.group.first_lease(pick).reserve
            self._shelf.take(pick.row, pick.nodes, asked.job.spec.budget, reserve)
        self._taken = before

    # -- counting ------------------------------------------------------------------------------------------------------

    def _judged(self, asked: Asked) -> tuple[Floats, Ints]:
        """Of each lane, what the job would cost there, and the number of the reason against it, or _POSSIBLE. [F]"""
        lanes, shelf = asked.group.lanes, self._shelf
        terms, rows = lanes.terms, lanes.rows
        codes = np.full(len(rows), _POSSIBLE)
        cost = terms.rate.copy() if asked.work is None else terms.fixed + terms.carried + terms.rate * asked.work
        had = shelf.had[rows]
        if (lacking := had < terms.nodes).any():
            codes[lacking] = self._lacking(lanes, np.flatnonzero(lacking))
        if asked.bound or shelf.idle_count[rows].any():
            seen = Searcher(self._crowd.question, self._crowd.policy, self._crowd.now, shelf).look(asked)
            cost[seen.place] = seen.cost
            codes[seen.place] = _refusals(asked, seen)
        return cost, codes

    def _lacking(self, lanes: Lanes, at: Ints) -> Ints:
        """Why these lanes cannot give the gang, in the order of shortlist.Shortlist."""
        shelf, rows = self._shelf, lanes.rows[at]
        idle, nodes = shelf.idle_count[rows], lanes.terms.nodes[at]
        free = shelf.free[rows]
        short = np.where(idle + free <= 0, _WHY[Why.NO_CAPACITY], _WHY[Why.NOT_ENOUGH_FOR_GANG])
        why = np.where((free < PLENTY) & (idle + free < nodes), short, _WHY[Why.OVER_QUOTA])
        return np.where(lanes.risk.cooling[rows], _WHY[Why.COOLING_DOWN], why)

    def _refused_for_good(self, asked: Asked) -> Counter[Why]:
        """The offers that are no lanes at all, by reason; the same for all jobs of the class."""
        known = self._lasting.get(id(asked.group))
        if known is None:
            known = self._lasting[id(asked.group)] = _counted(_unfit(asked.group.lanes))
        return known

    # -- telling -------------------------------------------------------------------------------------------------------

    def _told(self, rows: Ints, cost: Floats, codes: Ints, pick: Pick | None) -> list[int]:
        """The offers that have a line: the chosen one and the cheapest of those that would do, or of all."""
        able = codes == _POSSIBLE
        among = np.flatnonzero(able) if able.any() else np.arange(len(rows))
        if len(among) > KEPT:
            among = among[np.argpartition(cost[among], KEPT)[:KEPT]]
        found: list[int] = rows[among[np.argsort(cost[among], kind="stable")]].tolist()
        if pick is None:
            return found
        return [pick.row, *(row for row in found if row != pick.row)][:KEPT]

    def _lines(self, asked: Asked, told: list[int], pick: Pick | None) -> Report:
        """The report of the row by row planner on these offers alone."""
        crowd, job, lanes = self._crowd, asked.job, asked.group.lanes
        few = {crowd.columns.ids[row]: crowd.question.offers[crowd.columns.ids[row]] for row in told}
        question, policy, now = replace(crowd.question, offers=few), crowd.policy, crowd.now
        field = Field(job.spec.need, lanes.of.places, question, policy, now, reference=lanes.reference)
        demand = demand_of(job, lanes.reference, crowd.question, policy, now)
        stock = self._stock(told)
        shortlist = Shortlist(field, demand, stock, avoid=job.avoid, budget=job.spec.budget, left=asked.left)
        chosen = None if pick is None else shortlist.at(crowd.columns.ids[pick.row])
        return shortlist.explain(chosen, now)

    def _stock(self, told: list[int]) -> Stock:
        crowd, shelf = self._crowd, self._shelf
        ids = crowd.columns.ids
        few = {ids[row]: crowd.question.offers[ids[row]] for row in told}
        free = shelf.free[np.array(told, np.int64)].tolist()
        return Stock(
            free={ids[row]: None if left >= PLENTY else left for row, left in zip(told, free, strict=True)},
            idle={ids[row]: list(shelf.idle.get(row, ())) for row in told},
            room=dict(shelf.room),
            quotas=list(shelf.quotas),
            claims=claimed(crowd.question.quotas, few),
            promised=crowd.question.promised,
        )


def _refusals(asked: Asked, seen: Seen) -> Ints:
    """The number of the reason why each is not good, in the order of shortlist.Shortlist; _POSSIBLE: it is. [P]"""
    unliked = np.where(seen.cooling, _WHY[Why.COOLING_DOWN], _POSSIBLE)
    unliked = np.where(seen.avoided, _WHY[Why.AVOIDED], unliked)
    codes = np.where(seen.late, _WHY[Why.LATE], unliked)
    codes = np.where(seen.over_budget, _WHY[Why.OVER_BUDGET], codes)
    codes = np.where(seen.over_spot, _WHY[Why.OVER_SPOT_SHARE], codes)
    return np.where(seen.over_cost, _WHY[Why.OVER_COST_MAX], codes)


def _unfit(lanes: Lanes) -> Ints:
    """The number of the reason why an offer is no lane, in the order of shortlist.Field; _POSSIBLE: it is one. [O]"""
    columns, need, policy, now = lanes.columns, lanes.of.need, lanes.policy, lanes.now.market
    shapes = [_wrong_shape(lanes, number) for number in range(len(columns.shapes))]
    by_shape = np.array(shapes, np.int64)[columns.shape]
    codes = np.full(len(columns.ids), _POSSIBLE)
    spot = columns.market == CODE[Market.SPOT]
    wanted, placed, ending = lanes.wanted(), lanes.placed(), lanes.ending()
    dear: Bools = np.zeros(len(codes), np.bool_)
    if need.price_max is not None:
        dear = lanes.least * columns.price > need.price_max
    stale = now - columns.quoted > np.where(spot, policy.stale_after, policy.stale_list)
    for refused, why in ((ending, Why.ENDS_SOON), (dear, Why.OVER_PRICE_MAX), (stale, Why.STALE_PRICE)):
        codes[refused] = _WHY[why]
    codes[~columns.known] = _WHY[Why.NO_PRICE]
    codes = np.where(by_shape == _POSSIBLE, codes, by_shape)
    codes[~placed] = _WHY[Why.PLACE_NOT_WANTED]
    codes[~wanted] = _WHY[Why.MARKET_NOT_WANTED]
    return codes


def _wrong_shape(lanes: Lanes, number: int) -> int:
    shape, need = lanes.columns.shapes[number], lanes.of.need
    found = feasible.wrong_hardware(need, shape) or feasible.gang_sizes(need, shape, lanes.policy.nodes_max)
    return _WHY[found.why] if isinstance(found, Refusal) else _POSSIBLE


def _counted(codes: Ints) -> Counter[Why]:
    """How often each reason."""
    counts = np.bincount(codes, minlength=_POSSIBLE + 1)
    return Counter({why: int(counts[number]) for why, number in _WHY.items() if counts[number]})
