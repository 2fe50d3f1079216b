"""A cloud in memory: deterministic, with every fault that real ones have. Clock and dice are passed in.

It is synchronous, so that a simulator can drive it on a virtual clock; provider.py puts the port in front of it.
Nothing happens by itself: each call first settles what is due by now (boots, notices, leases, lag). A call costs what
is due and what lives, not what ever lived, so that weeks of a busy fleet can be simulated.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from dsched.providers.base import (
    Capacity,
    EndReason,
    Invalid,
    Launch,
    Node,
    NodeRef,
    NodeStatus,
    Notice,
    NoticeKind,
    Price,
    Quota,
    Scope,
)
from dsched.scheduler.core.hardware import Shape
from dsched.scheduler.core.market import Offer, Pool, Quote
from dsched.scheduler.core.units import Instant, MicroUsdPerHour, Millis, Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """One pool on sale."""

    pool: Pool
    shape: Shape
    price: MicroUsdPerHour
    on_demand: MicroUsdPerHour | None = None
    capacity: int = 1_000  # nodes that it carries, those in use included
    hazard: float | None = None
    notice: Millis = Millis(120_000)  # wall: lead of an interruption
    boot: Millis = Millis(0)  # wall: from launch to running


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    node: Node
    born: Instant  # wall
    lease_until: Instant  # wall
    user_data: str
    notice: Instant | None = None  # wall: taken at
    ending: EndReason | None = None
    ended: Instant | None = None  # wall
    undead: bool = False  # ignores its end until released


class FakeCloud:
    """`hear` is called with every hint. `lag`: how long (wall) a new node and an end stay unseen by `nodes`.

    `listed`: how long (wall) an end stays on the list; None: for ever.
    """

    def __init__(
        self,
        stocks: Iterable[Stock],
        *,
        now: Callable[[], Moment],
        rng: random.Random,
        name: str = "fake",
        quota: int = 10_000,
        lag: Millis = Millis(0),
        listed: Millis | None = None,
    ) -> None:
        self.name = name
        self.now = now
        self.rng = rng
        self.quota = quota
        self.lag = lag
        self.listed = listed
        self.hear: list[Callable[[Notice], None]] = []
        self._stocks = {stock.pool: stock for stock in stocks}
        self._sales: dict[str, Launch] = {}
        self._machines: dict[NodeRef, Machine] = {}  # ours
        self._foreign: dict[NodeRef, Machine] = {}  # other people's: never seen by the port
        self._alive: dict[NodeRef, None] = {}  # in the order of their launch
        self._ended: deque[NodeRef] = deque()  # still listed, oldest end first
        self._used: Counter[Pool] = Counter()
        self._due: list[tuple[int, int, NodeRef]] = []  # a heap; an entry that nothing is due by any more is skipped
        self._armed = 0

    # What the port asks.

    def offers(self) -> list[Offer]:
        self.settle()
        market = self.now().market
        return [_offer(stock, market, self._used[stock.pool]) for stock in self._stocks.values()]

    def launch(self, want: Launch) -> list[Node]:
        """All or nothing. The same token gives the same nodes, dead ones included."""
        self.settle()
        if known := self._sales.get(want.token):
            if known != want:
                raise Invalid("IdempotentParameterMismatch", f"token {want.token} was used for another request")
            return [self._machines[self._ref(want, index)].node for index in range(want.count)]
        self._admit(want)
        self._sales[want.token] = want
        for index in range(want.count):
            machine = self._new(want, index)
            self._machines[machine.node.ref] = machine
            self._alive[machine.node.ref] = None
            self._used[want.pool] += 1
            self._arm(machine)
        return [self._machines[self._ref(want, index)].node for index in range(want.count)]

    def nodes(self, tokens: Collection[str] | None = None) -> list[Node]:
        self.settle()
        wall = self.now().wall
        self._unlist(wall)
        machines = [self._machines[ref] for ref in (*self._ended, *self._alive)]
        seen = [_seen(one, wall, self.lag) for one in machines if wall - one.born >= self.lag]
        return [node for node in seen if tokens is None or node.token in tokens]

    def terminate(self, refs: Collection[NodeRef]) -> None:
        self.settle()
        for ref in refs:
            self._end(ref, EndReason.ASKED)

    def renew(self, refs: Collection[NodeRef], until: Instant) -> None:
        self.settle()
        for ref in refs:
            if (machine := self._living(ref)) and machine.lease_until < until:
                self._arm(self._put(replace(machine, lease_until=until)))

    # Levers.

    def restock(
        self,
        pool: Pool,
        *,
        price: MicroUsdPerHour | None = None,
        capacity: int | None = None,
        hazard: float | None = None,
    ) -> None:
        """Move the market. Capacity below what is in use interrupts nobody by itself."""
        stock = self._stocks[pool]
        self._stocks[pool] = replace(
            stock,
            price=stock.price if price is None else price,
            capacity=stock.capacity if capacity is None else capacity,
            hazard=stock.hazard if hazard is None else hazard,
        )
        self._tell(Notice(kind=NoticeKind.PRICES))

    def interrupt(self, ref: NodeRef, *, notice: bool = True) -> None:
        """Take a node back: with its pool's notice, or at once."""
        self.settle()
        machine = self._living(ref)
        if machine is None or machine.notice is not None or machine.ending is not None:
            return
        if not notice:
            self._end(ref, EndReason.INTERRUPTED)
            return
        deadline = Instant(self.now().wall + self._stocks[machine.node.pool].notice)
        self._arm(self._put(replace(machine, notice=deadline)))
        self._tell(Notice(kind=NoticeKind.INTERRUPT, ref=ref, deadline=deadline))

    def rebalance(self, ref: NodeRef) -> None:
        self._tell(Notice(kind=NoticeKind.REBALANCE, ref=ref))

    def fail(self, ref: NodeRef) -> None:
        """The machine breaks."""
        self.settle()
        self._end(ref, EndReason.FAILED)

    def exits(self, ref: NodeRef) -> None:
        """The node shuts itself down."""
        self.settle()
        if machine := self._living(ref):
            self._end(ref, EndReason.ASKED if machine.notice is None else EndReason.INTERRUPTED)

    def make_undead(self, ref: NodeRef) -> None:
        """From now on it ignores its end: it stays STOPPING, and runs, until `release`."""
        self._machines[ref] = replace(self._machines[ref], undead=True)

    def release(self, ref: NodeRef) -> None:
        machine = self._put(replace(self._machines[ref], undead=False))
        self._arm(machine)
        self._settle(machine)

    def foreign(self, pool: Pool) -> NodeRef:
        """A machine of somebody else in the same account."""
        want = Launch(token="", pool=pool, count=1, user_data="", lease_until=Instant(1 << 62))
        ref = NodeRef(self.name, f"foreign-{len(self._foreign)}")
        machine = self._new(want, 0)
        self._foreign[ref] = replace(machine, node=replace(machine.node, ref=ref))
        return ref

    # What only a simulator and a test may know.

    def running(self) -> list[Machine]:
        """Every machine of ours that runs, whatever the port tells."""
        self.settle()
        return [self._machines[ref] for ref in self._alive]

    def sold(self, token: str) -> list[Machine]:
        """The machines of one launch, the dead ones too; empty when it did not happen."""
        want = self._sales.get(token)
        return [] if want is None else [self._machines[self._ref(want, index)] for index in range(want.count)]

    def lives(self, ref: NodeRef) -> bool:
        return self._living(ref) is not None

    def everything(self) -> list[Machine]:
        """Every machine of ours, the dead ones too."""
        return list(self._machines.values())

    def machine(self, ref: NodeRef) -> Machine:
        return self._machines.get(ref) or self._foreign[ref]

    def next_due(self) -> Instant | None:
        """Wall: when something may happen by itself, at the earliest."""
        while self._due and self._living(self._due[0][2]) is None:
            heapq.heappop(self._due)
        return Instant(self._due[0][0]) if self._due else None

    def settle(self) -> None:
        """Bring about all that is due by now."""
        wall = self.now().wall
        while self._due and self._due[0][0] <= wall:
            _, _, ref = heapq.heappop(self._due)
            if (machine := self._living(ref)) is not None:
                self._settle(machine)

    def _settle(self, machine: Machine) -> None:
        wall, ref = self.now().wall, machine.node.ref
        booted = wall >= machine.born + self._stocks[machine.node.pool].boot
        if machine.node.status is NodeStatus.PENDING and booted:
            machine = self._put(replace(machine, node=replace(machine.node, status=NodeStatus.RUNNING)))
        if machine.notice is not None and wall >= machine.notice:
            self._end(ref, EndReason.INTERRUPTED)
        elif wall >= machine.lease_until:
            self._end(ref, EndReason.LEASE)
        elif machine.ending is not None:
            self._end(ref, machine.ending)

    def _arm(self, machine: Machine) -> None:
        """Look at it again whenever something is due."""
        boot = Instant(machine.born + self._stocks[machine.node.pool].boot)
        booting = [boot] if machine.node.status is NodeStatus.PENDING else []
        for due in (*booting, machine.lease_until, *([machine.notice] if machine.notice is not None else [])):
            self._armed += 1
            heapq.heappush(self._due, (due, self._armed, machine.node.ref))

    def _put(self, machine: Machine) -> Machine:
        self._machines[machine.node.ref] = machine
        return machine

    def _unlist(self, wall: Instant) -> None:
        """Forget the ends that are too old to be told."""
        while self.listed is not None and self._ended:
            ended = self._machines[self._ended[0]].ended
            if ended is None or wall - ended <= self.listed:
                return
            self._ended.popleft()

    def _admit(self, want: Launch) -> None:
        stock, used = self._stocks.get(want.pool), self._used
        if stock is None or want.count < 1:
            raise Invalid("InvalidParameterValue", f"{want.count} x {want.pool.id}")
        if want.lease_until <= self.now().wall:
            raise Invalid("LeaseOver", "the lease ends before the launch")
        if used.total() + want.count > self.quota:
            raise Quota("MaxNodesExceeded", f"{used.total()} of {self.quota} in use", scope=Scope.ACCOUNT)
        if used[want.pool] + want.count > stock.capacity:
            raise Capacity("InsufficientInstanceCapacity", want.pool.id, scope=Scope.POOL)
        if want.price_max is not None and stock.price > want.price_max:
            raise Price("MaxPriceTooLow", f"{stock.price} > {want.price_max}", scope=Scope.POOL)

    def _new(self, want: Launch, index: int) -> Machine:
        now = self.now()
        booting = self._stocks[want.pool].boot > 0
        node = Node(
            ref=self._ref(want, index),
            token=want.token,
            index=index,
            pool=want.pool,
            status=NodeStatus.PENDING if booting else NodeStatus.RUNNING,
            launched_at=now.market,
        )
        return Machine(node=node, born=now.wall, lease_until=want.lease_until, user_data=want.user_data)

    def _ref(self, want: Launch, index: int) -> NodeRef:
        return NodeRef(self.name, f"i-{want.token}-{index}")

    def _end(self, ref: NodeRef, by: EndReason) -> None:
        """The first reason stays. An undead machine goes on running."""
        machine = self._living(ref)
        if machine is None:
            return
        by, now = machine.ending or by, self.now()
        if machine.undead:
            self._put(replace(machine, ending=by, node=replace(machine.node, status=NodeStatus.STOPPING)))
            return
        gone = replace(machine.node, status=NodeStatus.GONE, ended_at=now.market, ended_by=by)
        self._put(replace(machine, node=gone, ending=by, ended=now.wall))
        del self._alive[ref]
        self._ended.append(ref)
        self._used[machine.node.pool] -= 1
        self._tell(Notice(kind=NoticeKind.GONE, ref=ref))

    def _living(self, ref: NodeRef) -> Machine | None:
        machine = self._machines.get(ref)
        return machine if machine is not None and machine.ended is None else None

    def _tell(self, notice: Notice) -> None:
        for listener in list(self.hear):
            listener(notice)


def _seen(machine: Machine, wall: Instant, lag: Millis) -> Node:
    """The node as the port tells it: an end shows only after the lag."""
    if machine.ended is None or wall - machine.ended >= lag:
        return machine.node
    return replace(machine.node, status=NodeStatus.STOPPING, ended_at=None, ended_by=None)


def _offer(stock: Stock, market: Instant, used: int) -> Offer:
    return Offer(
        pool=stock.pool,
        shape=stock.shape,
        quote=Quote(price=stock.price, at=market, source="fake"),
        on_demand=stock.on_demand,
        free=max(0, stock.capacity - used),
        hazard=stock.hazard,
        notice=stock.notice,
        boot=stock.boot,
    )
