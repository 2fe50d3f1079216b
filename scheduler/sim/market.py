"""A market on the virtual clock: what a recording or a generator says of every pool becomes the cloud's stock,
and what a pool does not carry any more is taken back.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Final, Protocol

from dsched.providers.base import NodeRef
from dsched.providers.fake.cloud import FakeCloud, Stock
from dsched.scheduler.core.hardware import Shape
from dsched.scheduler.core.market import Market, Pool
from dsched.scheduler.core.units import MicroUsdPerHour, Millis
from dsched.scheduler.sim.clock import Agenda

SETTLE: Final = Millis(1)  # after the instant of a step, so that the step is in force


class Tape(Protocol):
    """What one pool carries and costs, by age."""

    def next(self, age: Millis) -> Millis: ...


class Listing(Protocol):
    """One pool on sale."""

    @property
    def pool(self) -> Pool: ...
    @property
    def shape(self) -> Shape: ...
    @property
    def on_demand(self) -> MicroUsdPerHour | None: ...
    @property
    def notice(self) -> Millis: ...
    @property
    def tape(self) -> Tape: ...


class Course(Protocol):
    """How a market goes, as a function of its age. Recordings and generators are such (providers/local/market.py)."""

    @property
    def note(self) -> str: ...
    @property
    def listings(self) -> Mapping[Pool, Listing]: ...
    def capacity(self, pool: Pool, age: Millis) -> int: ...
    def price(self, pool: Pool, age: Millis) -> MicroUsdPerHour: ...
    def hazard(self, pool: Pool, age: Millis) -> float: ...


def stocks(course: Course, boot: Millis, since: Millis = Millis(0)) -> list[Stock]:
    """Every pool as it stands at the beginning."""
    return [
        Stock(
            pool=pool,
            shape=listing.shape,
            price=course.price(pool, since),
            on_demand=listing.on_demand,
            capacity=course.capacity(pool, since),
            hazard=course.hazard(pool, since),
            notice=listing.notice,
            boot=boot,
        )
        for pool, listing in course.listings.items()
    ]


class Crier:
    """Moves the cloud's stock along the course."""

    def __init__(
        self, course: Course, cloud: FakeCloud, agenda: Agenda, rng: Random, *, silent: float = 0.0, since: Millis
    ) -> None:
        """`silent`: the share of interruptions that come without notice. `since`: the course's age at the start."""
        self._course, self._cloud, self._agenda, self._rng = course, cloud, agenda, rng
        self._silent, self._origin = silent, agenda.start - since
        self.taken = 0
        self.moved = True  # a hint of prices is ours to give only when something moved
        self.droughts: dict[Pool, int] = {}  # -> wall until which it carries nothing, whatever the course says
        for pool in course.listings:
            self._wait(pool)

    def age(self) -> Millis:
        return Millis(self._agenda.now.market - self._origin)

    def words(self) -> None:
        """What the provider says of risk, before it is asked for its offers."""
        age = self.age()
        self.moved = False
        for pool in self._course.listings:
            if pool.market is Market.SPOT:
                self._cloud.restock(pool, hazard=self._course.hazard(pool, age))
        self.moved = True

    def shape(self, pool: Pool) -> Shape:
        return self._course.listings[pool].shape

    def dry(self, pool: Pool, lasting: Millis) -> None:
        """A drought: the pool carries nothing for so long."""
        self.droughts[pool] = self._agenda.now.wall + lasting
        self._apply(pool)
        self._agenda.after(Millis(lasting + SETTLE), self._apply, pool)

    def take_back(self, ref: NodeRef) -> None:
        self.taken += 1
        self._cloud.interrupt(ref, notice=self._rng.random() >= self._silent)

    def _wait(self, pool: Pool) -> None:
        at = self._origin + self._course.listings[pool].tape.next(self.age())
        scale = self._agenda.scale
        wall = self._agenda.start + -(-(at - self._agenda.start) // scale)
        self._agenda.at(int(wall) + SETTLE, self._step, pool)

    def _step(self, pool: Pool) -> None:
        self._apply(pool)
        self._wait(pool)

    def _apply(self, pool: Pool) -> None:
        age = self.age()
        dry = self.droughts.get(pool, 0) > self._agenda.now.wall
        capacity = 0 if dry else self._course.capacity(pool, age)
        self._cloud.restock(pool, price=self._course.price(pool, age), capacity=capacity)
        if pool.market is not Market.SPOT:
            return
        held = [
            m.node.ref for m in self._cloud.running() if m.node.pool == pool and m.notice is None and m.ending is None
        ]
        for ref in self._rng.sample(held, max(0, len(held) - capacity)):
            self.take_back(ref)
