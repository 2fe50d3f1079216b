"""Whatever goes wrong in whatever order: one live node per token at most, and a sweep leaves no orphan."""

from __future__ import annotations

import random
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dsched.providers.base import Launch, NodeRef, NodeStatus, ProviderError
from dsched.providers.fake.cloud import FakeCloud, Stock
from dsched.providers.fake.provider import FakeProvider, Fault, Mishap
from dsched.scheduler.core.hardware import Shape
from dsched.scheduler.core.market import Market, Pool
from dsched.scheduler.core.units import Instant, MicroUsdPerHour, Millis, Moment

T = TypeVar("T")

SHAPE = Shape(name="gpu-1", accelerator=None, gpus=0, vcpus=4, memory_gib=16)
POOLS = [Pool("fake", "r", f"r-{zone}", "gpu-1", Market.SPOT) for zone in "ab"]
LEASE = 10_000
COUNT = 3  # nodes of the largest gang
picks = st.integers(0, 1 << 16)
mishaps = st.sampled_from([None] * len(Mishap) + list(Mishap))  # half of all calls go well


def run(call: Coroutine[Any, Any, T]) -> T:
    """The fake never really waits."""
    try:
        call.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("the fake waited")


class Faults(RuleBasedStateMachine):
    """A daemon's life in the small: durable intents, and a memory that a crash wipes."""

    def __init__(self) -> None:
        super().__init__()
        self.wall = 1_700_000_000_000
        stocks = [
            Stock(pool=pool, shape=SHAPE, price=MicroUsdPerHour(1), capacity=6, notice=Millis(2_000), boot=Millis(500))
            for pool in POOLS
        ]
        self.cloud = FakeCloud(stocks, now=self.now, rng=random.Random(1), lag=Millis(700), quota=9)
        self.provider = FakeProvider(self.cloud)
        self.intents: list[Launch] = []  # durable, written before the cloud hears of it
        self.known: dict[NodeRef, str] = {}  # what this daemon was told; a crash wipes it
        self.wanted: set[str] = set()  # tokens that still have a purpose
        self.dead: set[NodeRef] = set()
        self.stranger = self.cloud.foreign(POOLS[0])

    def now(self) -> Moment:
        return Moment(wall=Instant(self.wall), market=Instant(self.wall))

    @rule(pool=st.sampled_from(POOLS), count=st.integers(1, COUNT), mishap=mishaps)
    def intend(self, pool: Pool, count: int, mishap: Mishap | None) -> None:
        """Write it down, then send it for the first time."""
        token = f"t{len(self.intents)}"
        lease = Instant(self.wall + LEASE)
        self.intents.append(Launch(token=token, pool=pool, count=count, user_data=token, lease_until=lease))
        self.wanted.add(token)
        self._send(self.intents[-1], mishap)

    @precondition(lambda self: self.intents)
    @rule(pick=picks, mishap=mishaps)
    def send_again(self, pick: int, mishap: Mishap | None) -> None:
        """The same bytes."""
        self._send(self.intents[pick % len(self.intents)], mishap)

    @rule(mishap=mishaps)
    def observe(self, mishap: Mishap | None) -> None:
        if mishap is not None:
            self.provider.faults.append(Fault("nodes", mishap))
        with suppress(ProviderError):
            self.known.update({node.ref: node.token for node in run(self.provider.nodes())})

    @rule()
    def crash(self) -> None:
        self.known.clear()
        self.provider = FakeProvider(self.cloud)

    @precondition(lambda self: self.known)
    @rule(pick=picks, mishap=mishaps)
    def let_go(self, pick: int, mishap: Mishap | None) -> None:
        ref = sorted(self.known)[pick % len(self.known)]
        self.wanted.discard(self.known[ref])
        if mishap is not None:
            self.provider.faults.append(Fault("terminate", mishap))
        with suppress(ProviderError):
            run(self.provider.terminate([ref, self.stranger, NodeRef("fake", "unknown")]))

    @rule(pick=picks, what=st.sampled_from(["notice", "silent", "fail", "undead", "exits"]))
    def strike(self, pick: int, what: str) -> None:
        running = self.cloud.running()
        if not running:
            return
        ref = running[pick % len(running)].node.ref
        match what:
            case "notice" | "silent":
                self.cloud.interrupt(ref, notice=what == "notice")
            case "fail":
                self.cloud.fail(ref)
            case "undead":
                self.cloud.make_undead(ref)
            case "exits":
                self.cloud.exits(ref)

    @precondition(lambda self: self.known)
    @rule(pick=picks, ms=st.integers(0, LEASE))
    def renew(self, pick: int, ms: int) -> None:
        run(self.provider.renew([sorted(self.known)[pick % len(self.known)]], Instant(self.wall + ms)))

    @rule(pool=st.sampled_from(POOLS), capacity=st.integers(0, 6))
    def market_moves(self, pool: Pool, capacity: int) -> None:
        self.cloud.restock(pool, capacity=capacity)

    @rule(ms=st.sampled_from([50, 500, 700, 2_000, LEASE // 2]))
    def time_passes(self, ms: int) -> None:
        self.wall += ms

    @invariant()
    def at_most_one_live_node_per_place_in_a_launch(self) -> None:
        places = [(one.node.token, one.node.index) for one in self.cloud.running()]
        assert len(places) == len(set(places))

    @invariant()
    def the_dead_stay_dead(self) -> None:
        self.dead |= {one.node.ref for one in self.cloud.everything() if one.ended is not None}
        assert not self.dead & {one.node.ref for one in self.cloud.running()}

    @invariant()
    def gangs_are_whole_or_nothing(self) -> None:
        told = {(node.token, node.index) for wish in self.intents for node in self._sold(wish)}
        for wish in self.intents:
            assert sum(token == wish.token for token, _ in told) in (0, wish.count)

    @invariant()
    def nothing_outlives_its_lease_but_the_undead(self) -> None:
        assert all(one.undead or one.lease_until > self.wall for one in self.cloud.running())

    @invariant()
    def what_is_told_as_gone_is_dead(self) -> None:
        alive = {one.node.ref for one in self.cloud.running()}
        assert not [node for node in self.cloud.nodes() if node.status is NodeStatus.GONE and node.ref in alive]

    def teardown(self) -> None:
        """The faults end, and the daemon sweeps: what nobody wants goes, listed by the cloud and by nothing else."""
        for one in self.cloud.running():
            self.cloud.release(one.node.ref)
        provider = FakeProvider(self.cloud)
        for _ in range(2):  # the second time sees what lagged
            self.wall += 1_000
            orphans = [node.ref for node in run(provider.nodes()) if node.token not in self.wanted]
            run(provider.terminate(orphans))
        assert {one.node.token for one in self.cloud.running()} <= self.wanted
        assert self.cloud.machine(self.stranger).ended is None

    def _send(self, wish: Launch, mishap: Mishap | None) -> None:
        if mishap is not None:
            self.provider.faults.append(Fault("launch", mishap))
        with suppress(ProviderError):
            self.known.update({node.ref: node.token for node in run(self.provider.launch(wish))})

    def _sold(self, wish: Launch) -> list[Any]:
        return [one.node for one in self.cloud.everything() if one.node.token == wish.token]


TestFaults = Faults.TestCase
TestFaults.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
