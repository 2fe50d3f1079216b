"""For one class of equal jobs: every offer judged once, the possible ones best first.

Judging a thousand offers takes milliseconds, and a queue may hold thousands of equal jobs, so a pass keeps two caches.
A `Field` knows what holds for every job with the same need: which offers cannot serve it whatever happens. A
`Shortlist` adds the numbers that equal jobs share (work left, deadline, money left) and judges again only the offers of
which the pass itself took something.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import NamedTuple

from dsched.scheduler.core import feasible, hazard, hold, rank
from dsched.scheduler.core.job import Need
from dsched.scheduler.core.market import Offer
from dsched.scheduler.core.placement import Placement, Policy, Promise, Question, aside
from dsched.scheduler.core.quota import Claim, claimed
from dsched.scheduler.core.rank import Demand
from dsched.scheduler.core.report import Line, Refusal, Report, Value, Verdict, Why, write
from dsched.scheduler.core.units import Charge, MicroUsdPerHour, Moment


class Tier(IntEnum):
    """How willingly an offer is taken: all of a lower tier come first."""

    GOOD = 0
    LAST_RESORT = 1  # it interrupted or refused this job lately, or others: only when nothing else fits
    LATE = 2  # misses the deadline: only to finish work that is already paid for
    NEVER = 3


@dataclass(slots=True)
class Stock:
    """What is left to give while one pass places gang after gang, so that nothing is given twice."""

    free: dict[str, int | None]  # pool -> nodes to be had; None: not told
    idle: dict[str, list[str]]  # pool -> nodes of ours, sorted
    room: dict[str, Charge | None]  # budget -> what may still be reserved
    quotas: list[int] = field(default_factory=list)  # left of each, in its own unit
    claims: dict[str, tuple[Claim, ...]] = field(default_factory=dict)  # pool -> the quotas that it draws on
    promised: Mapping[str, Promise] = field(default_factory=dict)  # node of ours -> what its lease sets aside already
    taken: list[str] = field(default_factory=list)  # pools of which less is left than before, in the order of taking

    @classmethod
    def of(cls, question: Question) -> Stock:
        return cls(
            free={id: None if o.free is None else max(0, o.free) for id, o in question.offers.items()},
            idle={id: sorted(set(nodes)) for id, nodes in question.idle.items()},
            room=dict(question.room),
            quotas=[one.left for one in question.quotas],
            claims=claimed(question.quotas, question.offers),
            promised=question.promised,
        )

    def idle_in(self, pool: str) -> int:
        return len(self.idle.get(pool, ()))

    def aside(self, pool: str, budget: str, value: Value) -> Charge:
        """What a gang there must set aside yet: the leases of idle nodes that it takes are promised already."""
        return aside(self.promised, budget, value.reserve, self.idle.get(pool, ())[: value.nodes], value.nodes)

    def buyable(self, pool: str) -> int | None:
        """Nodes that may be bought there: what is free, within the quotas. None: nobody has set a limit."""
        free, within = self.free[pool], self.within_quota(pool)
        return within if free is None else free if within is None else min(free, within)

    def within_quota(self, pool: str) -> int | None:
        return min((self.quotas[claim.number] // claim.each for claim in self.claims.get(pool, ())), default=None)

    def take(self, placement: Placement) -> None:
        pool = placement.pool.id
        free, room = self.free[pool], self.room.get(placement.budget)
        if free is not None:
            self.free[pool] = free - placement.buy
        if placement.reuse:
            self.idle[pool] = self.idle[pool][len(placement.reuse) :]
        if room is not None:
            more = aside(self.promised, placement.budget, placement.reserve, placement.reuse, placement.nodes)
            self.room[placement.budget] = Charge(room - more)
        self.taken.append(pool)
        for claim in self.claims.get(pool, ()) if placement.buy else ():
            self.quotas[claim.number] -= claim.each * placement.buy
            sharing = (id for id, drawn in self.claims.items() if any(c.number == claim.number for c in drawn))
            self.taken += sharing


class Entry(NamedTuple):
    """An offer that could serve the need, if capacity, money and time allow."""

    offer: Offer
    price: MicroUsdPerHour
    sizes: range  # numbers of nodes, smallest first
    node_hazard: float
    cooling: Refusal | None  # then nothing is bought there; nodes that we have already may serve as a last resort

    def largest(self, stock: Stock) -> int:
        """The most nodes that can be had for one gang, at most what it may use."""
        pool = self.offer.pool.id
        free = 0 if self.cooling else stock.buyable(pool)
        return self.sizes[-1] if free is None else min(self.sizes[-1], stock.idle_in(pool) + free)


class Field:
    """All offers as one requirement class sees them: refused for good in this pass, or entries."""

    def __init__(
        self,
        need: Need,
        places: tuple[str, ...],
        question: Question,
        policy: Policy,
        now: Moment,
        *,
        reference: rank.Reference | None = None,
    ) -> None:
        """`reference`: where the question is of a few offers alone, and it is known of all of them."""
        self.need, self.places = need, places
        self.question, self.policy, self.now = question, policy, now
        self.reference = reference or rank.reference(need, question)
        self.entries: dict[str, Entry] = {}
        self._refused: list[tuple[Offer, Refusal]] = []
        self._told: list[Line] | None = None
        self.report: Report | None = None  # shared by all jobs of the class once nothing is left
        sizes: dict[str, range | Refusal] = {}  # of each shape; offers are many, shapes are few
        for id, offer in sorted(question.offers.items()):
            if offer.shape.name not in sizes:
                sizes[offer.shape.name] = self._sizes(offer)
            self._enter(id, offer, sizes[offer.shape.name])
        self._open = list(self.entries.values())

    @property
    def refused(self) -> list[Line]:
        """A line for each offer that cannot serve the need, written when somebody asks: most decisions are not told."""
        if self._told is None:
            self._told = [_line(offer, self._hazard(offer), refusal) for offer, refusal in self._refused]
        return self._told

    def exhausted(self, stock: Stock) -> bool:
        """Whether no entry can give even the smallest gang. Stock only falls, so within a pass this is final."""
        while self._open and self._open[-1].largest(stock) < self._open[-1].sizes[0]:
            self._open.pop()
        return not self._open

    def _sizes(self, offer: Offer) -> range | Refusal:
        refusal = feasible.wrong_hardware(self.need, offer.shape)
        return refusal or feasible.gang_sizes(self.need, offer.shape, self.policy.nodes_max)

    def _enter(self, id: str, offer: Offer, sizes: range | Refusal) -> None:
        now, policy = self.now.market, self.policy
        refusal = (
            feasible.wrong_market(self.need, offer.pool)
            or feasible.wrong_place(self.places, offer.pool)
            or (sizes if isinstance(sizes, Refusal) else None)
            or feasible.no_price(offer)
        )
        if refusal is None and isinstance(sizes, range) and offer.quote is not None:
            quote = offer.quote
            refusal = feasible.stale_price(
                quote.at, now, policy.stale_in(offer.pool.market)
            ) or feasible.over_price_max(self.need, sizes[0], quote.price)
            least = hold.least(offer.boot, policy.restart, self.question.scale)
            refusal = refusal or feasible.ends_soon(offer.until, now, least)
            if refusal is None:
                if self.need.price_max is not None and quote.price > 0:
                    sizes = range(sizes[0], min(sizes[-1], self.need.price_max // quote.price) + 1)
                cooling = feasible.cooling(self.question.pools.get(id), now)
                self.entries[id] = Entry(offer, quote.price, sizes, self._hazard(offer), cooling)
        if refusal is not None:
            self._refused.append((offer, refusal))

    def _hazard(self, offer: Offer) -> float:
        return hazard.per_node(offer, self.question.pools.get(offer.pool.id), self.policy, self.now.market)


class Judged(NamedTuple):
    line: Line
    tier: Tier
    idle: int  # nodes of ours that it would use


class Shortlist:
    """The field as jobs with equal numbers see it: valued, judged, and sorted by cost."""

    def __init__(
        self, of: Field, demand: Demand, stock: Stock, *, avoid: tuple[str, ...], budget: str, left: Charge | None
    ):
        self._field, self._demand = of, demand
        self._avoid, self._budget, self._left = frozenset(avoid), budget, left
        self._judged = {id: self._judge(entry, stock) for id, entry in of.entries.items()}
        self._seen = len(stock.taken)
        self._room = stock.room.get(budget)
        self._ranked = self._rank()
        self.report: Report | None = None  # shared by all jobs of the class once none of them can be placed

    def choose(self, stock: Stock, *, late: bool) -> Judged | None:
        """The best offer for the next job of this class; `late`: it may miss its deadline, if it must."""
        self._refresh(stock)
        good = [judged for judged in self._ranked if judged.tier is Tier.GOOD]
        if good:
            return self._prefer_idle(self._lasting_first(good))
        rest = [judged for judged in self._ranked if judged.tier is Tier.LAST_RESORT]
        if rest:
            return rest[0]
        behind = [judged for judged in self._ranked if judged.tier is Tier.LATE] if late else []
        return min(behind, key=_finish) if behind else None

    @property
    def ranked(self) -> Sequence[Judged]:
        """By cost, as they were judged last."""
        return self._ranked

    def explain(self, chosen: Judged | None, at: Moment, *, cheaper: Why = Why.NEEDS_BUYING) -> Report:
        """Every offer once: the chosen, the possible by cost, the refused. `cheaper`: why those were not taken."""
        ranked: list[Line] = []
        refused: list[Line] = []
        for line, tier, _ in self._ranked:
            if chosen is not None and line is chosen.line:
                ranked.insert(0, replace(line, verdict=Verdict.CHOSEN, code=None, words=""))
            elif tier is Tier.GOOD and chosen is not None:
                less = _score(line) < _score(chosen.line)
                ranked.append(replace(line, code=cheaper) if less else line)
            else:
                refused.append(line)
        return write(
            at=at,
            policy=self._demand.policy.name,
            need=self._field.need,
            ranked=ranked,
            reuse=chosen.idle if chosen is not None else 0,
            refused=[*refused, *self._field.refused],
        )

    def at(self, pool: str) -> Judged | None:
        """How this pool is judged; None: it cannot serve the class."""
        return self._judged.get(pool)

    def _lasting_first(self, good: list[Judged]) -> list[Judged]:
        """What is held until the work is done before what ends earlier: both are paid for, and a move costs time."""
        if self._lasts(good[0]):
            return good
        free = [one for one in good if hold.sunk(self._field.entries[one.line.offer].price) and self._lasts(one)]
        return free + [one for one in good if one not in free] if free else good

    def _lasts(self, judged: Judged) -> bool:
        until, value = self._field.entries[judged.line.offer].offer.until, judged.line.value
        return until is None or value is None or value.finish is None or value.finish <= until

    def worth(self) -> float:
        """Micro-dollars that a slot which is held for us would save the gang in an hour; inf: it has no other place."""
        good = [one for one in self._ranked if one.tier is Tier.GOOD and one.line.value is not None]
        held = [one for one in good if hold.sunk(self._field.entries[one.line.offer].price)]
        if not held:
            return 0.0
        other = next((one.line.value for one in good if one not in held), None)
        value = held[0].line.value
        if other is None or value is None:
            return math.inf
        return max(0.0, other.per_useful_hour - value.per_useful_hour) * value.goodput * value.speed

    def _prefer_idle(self, good: list[Judged]) -> Judged:
        """The cheapest that needs no buying, unless buying elsewhere is so much cheaper that a long job should."""
        limit = _score(good[0].line) * self._demand.policy.reuse_premium
        ours = (judged for judged in good if judged.line.value is not None and judged.line.value.nodes <= judged.idle)
        return next((judged for judged in ours if _score(judged.line) <= limit), good[0])

    def _refresh(self, stock: Stock) -> None:
        """Judge again what the pass has touched since the last look: pools, and reservations beyond the budget."""
        room = stock.room.get(self._budget)
        again = {id for id in stock.taken[self._seen :] if id in self._judged}
        if room is not None and room != self._room:
            again |= {j.line.offer for j in self._ranked if j.line.value is not None and j.line.value.reserve > room}
        self._seen, self._room = len(stock.taken), room
        if again:
            self._judged |= {id: self._judge(self._field.entries[id], stock) for id in again}
            self._ranked = self._rank()

    def _rank(self) -> list[Judged]:
        return sorted(self._judged.values(), key=_by_cost)

    def _judge(self, entry: Entry, stock: Stock) -> Judged:
        offer, smallest, largest = entry.offer, entry.sizes[0], entry.largest(stock)
        idle = stock.idle_in(offer.pool.id)
        if largest < smallest:
            value = self._value(entry, range(smallest, smallest + 1), idle)
            short = feasible.short(smallest, idle, stock.free[offer.pool.id])
            refusal = entry.cooling or short or feasible.over_quota(smallest, idle, stock.within_quota(offer.pool.id))
            return Judged(_line(offer, value.hazard, refusal, value), Tier.NEVER, 0)
        value = self._value(entry, range(smallest, largest + 1), idle)
        lease = self._field.question.market(self._demand.policy.lease)
        spot_left = self._demand.luggage.spot_left
        refusal = (
            feasible.over_cost_max(self._left, value, lease)
            or feasible.over_spot_share(self._field.need, offer.pool, value, spot_left)
            or feasible.over_budget(
                self._budget, stock.room.get(self._budget), stock.aside(offer.pool.id, self._budget, value)
            )
        )
        if refusal is not None:
            return Judged(_line(offer, value.hazard, refusal, value), Tier.NEVER, 0)
        tier = Tier.GOOD
        if (refusal := feasible.late(value, self._demand.deadline)) is not None:
            tier = Tier.LATE
        elif (refusal := feasible.avoided(offer.pool.id, self._avoid) or entry.cooling) is not None:
            tier = Tier.LAST_RESORT
        return Judged(_line(offer, value.hazard, refusal, value), tier, min(idle, value.nodes))

    def _value(self, entry: Entry, sizes: range, idle: int) -> Value:
        return rank.best_size(
            entry.offer, entry.price, sizes, idle=idle, node_hazard=entry.node_hazard, demand=self._demand
        )


def _line(offer: Offer, risk: float, refusal: Refusal | None, value: Value | None = None) -> Line:
    return Line(
        offer=offer.pool.id,
        pool=offer.pool,
        shape=offer.shape,
        hazard=risk,
        value=value,
        verdict=Verdict.POSSIBLE if refusal is None else Verdict.REFUSED,
        code=Why.DEARER if refusal is None else refusal.why,
        words="" if refusal is None else refusal.words,
    )


def _score(line: Line) -> float:
    assert line.value is not None, "only valued lines are ranked"
    return line.value.score


def _by_cost(judged: Judged) -> tuple[float, str]:
    """Equal costs are ordered by name, so that equal questions get equal plans."""
    return _score(judged.line), judged.line.offer


def _finish(judged: Judged) -> tuple[int, float, str]:
    value = judged.line.value
    assert value is not None, "only valued lines are ranked"
    assert value.finish is not None, "only known work can be late"
    return value.finish, value.score, judged.line.offer
