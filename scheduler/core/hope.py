"""What a class of jobs that found nothing may hope for now: a few comparisons, no costs and no reasons.

The planner judges a class in milliseconds, and ten thousand waiting jobs may be of as many classes. When the market
moves, most of them still find nothing; this says so in microseconds. It may raise hopes in vain, since the planner
knows more constraints, but it never gives up a class that the planner could place.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dsched.scheduler.core.feasible import cooling, gang_sizes, wrong_hardware, wrong_market, wrong_place
from dsched.scheduler.core.hardware import Shape
from dsched.scheduler.core.job import Need
from dsched.scheduler.core.market import Offer
from dsched.scheduler.core.placement import Question
from dsched.scheduler.core.snapshot import Kind
from dsched.scheduler.core.units import MicroUsdPerHour, Moment


@dataclass(slots=True)
class Hope:
    """For one pass of the planner. `looked` counts the offers compared so far: the work that this was."""

    question: Question
    now: Moment
    nodes_max: int
    looked: int = 0
    _least: dict[Need, MicroUsdPerHour | None] = field(default_factory=dict)

    def left(self, kind: Kind) -> bool:
        """Whether some offer might take a job of this class."""
        need = kind.need
        room = self.question.room.get(kind.budget)
        if room is not None and room <= 0 and not self._promising(kind.budget):
            return False
        limit = need.price_max
        least = self._least_for(need if limit is None else replace(need, price_max=None))
        return least is not None and (limit is None or least <= limit)

    def _promising(self, budget: str) -> bool:
        """Whether a lease that is promised already could be taken over: that needs hardly any room."""
        return any(promise.budget == budget for promise in self.question.promised.values())

    def _least_for(self, need: Need) -> MicroUsdPerHour | None:
        """The lowest price of the smallest gang among the offers that have one now; None: there is none."""
        if need not in self._least:
            prices = [price for offer, nodes in self.suited(need) if (price := self._price(offer, nodes)) is not None]
            self._least[need] = min(prices, default=None)
        return self._least[need]

    def suited(self, need: Need) -> list[tuple[Offer, int]]:
        """The offers of the right kind, each with the nodes of the smallest gang there."""
        smallest: dict[Shape, int | None] = {}
        found = []
        self.looked += len(self.question.offers)
        for offer in self.question.offers.values():
            if wrong_market(need, offer.pool) or wrong_place(need.places, offer.pool):
                continue
            shape = offer.shape
            if shape not in smallest:
                smallest[shape] = self._smallest(need, shape)
            nodes = smallest[shape]
            if nodes is not None:
                found.append((offer, nodes))
        return found

    def _smallest(self, need: Need, shape: Shape) -> int | None:
        sizes = wrong_hardware(need, shape) or gang_sizes(need, shape, self.nodes_max)
        return sizes[0] if isinstance(sizes, range) else None

    def _price(self, offer: Offer, nodes: int) -> MicroUsdPerHour | None:
        """Of a gang of so many nodes, if they can be had and a price is known."""
        pool = offer.pool.id
        idle = len(self.question.idle.get(pool, ()))
        free = 0 if cooling(self.question.pools.get(pool), self.now.market) else offer.free
        if offer.quote is None or (free is not None and idle + max(0, free) < nodes):
            return None
        return MicroUsdPerHour(nodes * offer.quote.price)
