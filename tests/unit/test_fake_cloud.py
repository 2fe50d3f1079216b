"""The fake's own levers: what a test or the simulator relies on beyond the provider port."""

from __future__ import annotations

from random import Random

import pytest

from dsched.providers.base import Ambiguous, EndReason, Launch, NodeStatus, Notice, NoticeKind, ProviderError
from dsched.providers.fake.cloud import FakeCloud, Stock
from dsched.providers.fake.provider import FakeProvider, Fault, Mishap
from dsched.scheduler.core.hardware import Shape
from dsched.scheduler.core.market import Market, Pool
from dsched.scheduler.core.units import Instant, MicroUsdPerHour, Millis, Moment

SHAPE = Shape(name="gpu-1", accelerator=None, gpus=0, vcpus=4, memory_gib=16)
POOL = Pool("fake", "r", "r-a", "gpu-1", Market.SPOT)


class Clock:
    """Market time runs ten times as fast."""

    def __init__(self) -> None:
        self.wall = 1_000

    def __call__(self) -> Moment:
        return Moment(wall=Instant(self.wall), market=Instant(10 * self.wall))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def cloud(clock: Clock, *, lag: int = 0, seed: int = 1) -> FakeCloud:
    stock = Stock(pool=POOL, shape=SHAPE, price=MicroUsdPerHour(5), capacity=50, notice=Millis(100), boot=Millis(30))
    return FakeCloud([stock], now=clock, rng=Random(seed), lag=Millis(lag))


def wish(token: str = "a", lease: int = 10_000) -> Launch:
    return Launch(token=token, pool=POOL, count=1, user_data="", lease_until=Instant(lease))


def test_a_node_boots_is_noticed_and_taken_each_at_its_time(clock: Clock) -> None:
    fake, hints = cloud(clock), list[Notice]()
    fake.hear.append(hints.append)
    [node] = fake.launch(wish())
    assert (node.status, node.launched_at) == (NodeStatus.PENDING, 10_000)
    assert fake.next_due() == 1_030
    clock.wall = 1_030
    assert fake.nodes()[0].status is NodeStatus.RUNNING
    fake.interrupt(node.ref)
    assert hints == [Notice(kind=NoticeKind.INTERRUPT, ref=node.ref, deadline=Instant(1_130))]
    assert fake.next_due() == 1_130
    clock.wall = 1_130
    [ended] = fake.nodes()
    assert (ended.status, ended.ended_by, ended.ended_at) == (NodeStatus.GONE, EndReason.INTERRUPTED, 11_300)
    assert hints[-1] == Notice(kind=NoticeKind.GONE, ref=node.ref)
    assert fake.next_due() is None


def test_a_lagging_cloud_shows_a_node_late_and_its_end_late(clock: Clock) -> None:
    fake = cloud(clock, lag=200)
    [node] = fake.launch(wish())
    assert fake.nodes() == []
    assert fake.launch(wish())[0].ref == node.ref
    clock.wall += 200
    assert [n.status for n in fake.nodes()] == [NodeStatus.RUNNING]
    fake.terminate([node.ref])
    assert fake.running() == []
    assert [n.status for n in fake.nodes()] == [NodeStatus.STOPPING]
    clock.wall += 200
    assert [n.status for n in fake.nodes()] == [NodeStatus.GONE]


def test_an_undead_node_runs_on_until_it_is_released(clock: Clock) -> None:
    fake = cloud(clock)
    [node] = fake.launch(wish())
    fake.make_undead(node.ref)
    fake.terminate([node.ref])
    clock.wall = 20_000  # its lease is over as well
    assert [n.status for n in fake.nodes()] == [NodeStatus.STOPPING]
    assert [one.node.ref for one in fake.running()] == [node.ref]
    fake.release(node.ref)
    assert [(n.status, n.ended_by) for n in fake.nodes()] == [(NodeStatus.GONE, EndReason.ASKED)]


def test_a_node_that_leaves_under_notice_counts_as_interrupted(clock: Clock) -> None:
    fake = cloud(clock)
    [calm], [noticed] = fake.launch(wish("calm")), fake.launch(wish("noticed"))
    fake.interrupt(noticed.ref)
    fake.exits(calm.ref)
    fake.exits(noticed.ref)
    assert [n.ended_by for n in fake.nodes()] == [EndReason.ASKED, EndReason.INTERRUPTED]


async def test_an_omitting_list_looks_whole_and_is_not(clock: Clock) -> None:
    fake = cloud(clock)
    provider = FakeProvider(fake)
    for number in range(20):
        await provider.launch(wish(f"t{number}"))
    provider.faults.append(Fault("nodes", Mishap.OMITS))
    assert 0 < len(await provider.nodes()) < 20
    assert len(await provider.nodes()) == 20


async def test_the_same_dice_give_the_same_faults(clock: Clock) -> None:
    async def story(seed: int) -> list[str]:
        provider = FakeProvider(cloud(clock, seed=seed), rates={"launch": {Mishap.LOST_AFTER: 0.3, Mishap.AUTH: 0.2}})
        told = []
        for number in range(30):
            try:
                await provider.launch(wish(f"t{number}"))
                told.append("ok")
            except ProviderError as problem:
                told.append(type(problem).__name__)
        return told

    first = await story(1)
    assert first == await story(1)
    assert first != await story(2)
    assert {"ok", "Ambiguous", "Auth"} <= set(first)


async def test_an_unreachable_cloud_does_nothing(clock: Clock) -> None:
    fake = cloud(clock)
    with pytest.raises(Ambiguous):
        await FakeProvider(fake, reachable=False).launch(wish())
    assert fake.nodes() == []
