"""What the embedded cloud sells, to whom it refuses, and what its levers and recordings do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from dsched.providers.base import (
    Ambiguous,
    Capacity,
    EndReason,
    Invalid,
    Node,
    NodeStatus,
    ProviderError,
    Quota,
)
from dsched.providers.local.provider import LocalProvider
from dsched.providers.local.start import ensure
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.units import Millis
from tests.support.machines import FAMILY, status
from tests.support.world import LocalWorld, want


@pytest.fixture
async def world() -> AsyncIterator[LocalWorld]:
    async with LocalWorld() as world:
        yield world


async def test_a_recorded_drought_takes_the_nodes_of_its_pool(tmp_path: Path) -> None:
    trace = {
        "schema": "dsched.trace/1",
        "name": "x/us-west-2a",
        "gap_seconds": 600,
        "counts_rle": [[2, 4], [0, 1_000]],
        "spot_price": 0.9,
        "od_price": 3.06,
    }
    (tmp_path / "trace.json").write_text(json.dumps(trace))
    world = LocalWorld(trace=tmp_path, scale=1_200.0)  # the drought begins after two seconds
    world.pool = replace(world.pool, region="us-west-2", zone="usw2-az1", shape="p3.2xlarge")
    await ensure(world.folder, world.options)
    try:
        assert await world.provider().note() == f"replayed market (1 traces of {tmp_path.name}), 1200x"
        await world.provider().launch(want(world, "a", count=2))
        assert (await status(world, "a", NodeStatus.GONE)).ended_by is EndReason.INTERRUPTED
        with pytest.raises(Capacity):
            await world.provider().launch(want(world, "b"))
        assert (await world.provider().clock())[0].market - world.wall() > 4 * 600_000 - 10_000
    finally:
        await world.close()


async def test_a_stopped_cloud_makes_a_launch_ambiguous_within_the_limit(world: LocalWorld) -> None:
    cloud = psutil.Process(world.cloud_pid())
    cloud.suspend()
    try:
        provider = LocalProvider(world.folder / "cloud.sock", timeout=Millis(300))
        with pytest.raises(Ambiguous):
            await provider.launch(want(world, "a"))
        with pytest.raises(ProviderError):
            await provider.nodes()
    finally:
        cloud.resume()


async def test_a_launch_that_the_machine_cannot_start_leaves_nothing() -> None:
    async with LocalWorld() as world:
        (world.folder / "consoles").rename(world.folder / "elsewhere")
        with pytest.raises(Capacity, match="No such file"):
            await world.provider().launch(want(world, "a", count=3))
        assert await world.provider().nodes() == []
        assert world.processes() == []
        (world.folder / "elsewhere").rename(world.folder / "consoles")
        assert len(await world.provider().launch(want(world, "a", count=3))) == 3


async def test_the_account_has_a_quota(world: LocalWorld) -> None:
    await world.provider().inject("quota", nodes=2)
    await world.provider().launch(want(world, "a", count=2))
    with pytest.raises(Quota, match="2 of 2"):
        await world.provider().launch(want(world, "b"))


async def test_launches_at_once_never_sell_a_slot_twice(world: LocalWorld) -> None:
    await world.provider().inject("capacity", pool=world.pool.id, count=3)
    launches = (world.provider().launch(want(world, f"t{n}", count=2)) for n in range(3))
    answers = await asyncio.gather(*launches, return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["Capacity", "Capacity", "list"]


async def test_a_reservation_has_as_many_slots_as_were_committed(world: LocalWorld) -> None:
    offers = await world.provider().offers()
    held = next(offer for offer in offers if offer.pool.market is Market.RESERVED)
    assert held.quote is not None
    assert held.on_demand is not None
    assert held.free is not None
    assert held.quote.price < held.on_demand
    await world.provider().launch(want(world, "a", pool=held.pool, count=held.free))
    with pytest.raises(Capacity):
        await world.provider().launch(want(world, "b", pool=held.pool))


async def test_falling_capacity_takes_as_many_spot_nodes_as_no_longer_fit(world: LocalWorld) -> None:
    await world.provider().launch(want(world, "a", count=5))
    await world.provider().inject("capacity", pool=world.pool.id, count=3)

    async def settled() -> list[Node] | None:
        nodes = await world.provider().nodes(["a"])
        return nodes if sum(node.status is NodeStatus.GONE for node in nodes) == 2 else None

    nodes = await world.until(settled)
    assert {node.ended_by for node in nodes if node.status is NodeStatus.GONE} == {EndReason.INTERRUPTED}
    assert len(world.processes()) >= 3


async def test_a_script_plays_a_notice_a_kill_and_a_price_move(tmp_path: Path) -> None:
    script = tmp_path / "script"
    lines = [
        {"at": 0, "do": "price", "pool": "local/use1-az1/g6.xlarge/spot", "factor": 3},
        {"at": 0, "do": "interrupt", "pool": "local/use1-az1/*", "notice": True, "age_ms": 50},
        {"at": 10, "do": "interrupt", "pool": "local/use1-az1/*", "notice": False},
    ]
    script.write_text("# a comment\n" + "\n".join(json.dumps(line) for line in lines) + "\n")
    async with LocalWorld(script=script) as world:
        listed = next(o for o in await world.provider().offers() if o.pool == world.pool)
        await world.provider().launch(want(world, "a", count=2, user_data=FAMILY))
        await status(world, "a", NodeStatus.GONE)
        log = (world.folder / "cloud.log").read_text()
        await world.provider().inject("price", pool=world.pool.id)
        plain = next(o for o in await world.provider().offers() if o.pool == world.pool)
        assert listed.quote is not None
        assert plain.quote is not None
        assert listed.quote.price == pytest.approx(3 * plain.quote.price, rel=0.5)
        world.kill_cloud()
        await ensure(world.folder, world.options)
        [node] = await world.provider().launch(want(world, "b"))  # nothing is played twice
        assert (await status(world, "b", NodeStatus.RUNNING)).ref == node.ref
    assert log.count("machine.notice") == 1
    assert log.count("by=interrupted code") == 2


async def test_a_lever_that_does_not_exist_is_invalid(world: LocalWorld) -> None:
    for kind, what in (("explode", {}), ("interrupt", {"node": "i-nobody"}), ("price", {"pool": "nowhere/*"})):
        with pytest.raises(Invalid):
            await world.provider().inject(kind, **what)
    with pytest.raises(Invalid):
        await world.provider().inject("price", pool=world.pool.id, factor="much")
