"""The embedded cloud is killed, stopped and started again: what survives, and what is done all the same."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from dsched.providers.base import (
    EndReason,
    NodeStatus,
    NoticeKind,
    ProviderError,
)
from dsched.providers.local.fleet import sale_record
from dsched.providers.local.options import Options
from dsched.providers.local.start import NoCloud, ensure
from dsched.scheduler.core.market import Market, Offer
from dsched.scheduler.core.units import Instant
from tests.support.machines import alive, eventually, launched, listening, status, tree_of
from tests.support.world import WAIT_S, LocalWorld, want


@pytest.fixture
async def world() -> AsyncIterator[LocalWorld]:
    async with LocalWorld() as world:
        yield world


async def test_a_killed_cloud_takes_its_nodes_over_again(world: LocalWorld) -> None:
    nodes = await launched(world, "a", count=2)
    [dead] = await launched(world, "dead")
    await world.provider().terminate([nodes[1].ref])
    before = {p.pid for p in world.processes("a.0")}
    victim = tree_of(world, "dead.0")[0]
    world.kill_cloud()
    assert {p.pid for p in world.processes("a.0")} >= before  # nodes outlive their cloud
    victim.kill()  # dies while nobody looks
    with pytest.raises(ProviderError):
        await world.provider().nodes()

    await ensure(world.folder, world.options)
    told = {node.ref: node for node in await world.provider().nodes()}
    assert told[nodes[0].ref].status is NodeStatus.RUNNING
    assert told[nodes[0].ref].launched_at == nodes[0].launched_at
    assert told[nodes[1].ref].ended_by is EndReason.ASKED
    assert (told[dead.ref].status, told[dead.ref].ended_by) == (NodeStatus.GONE, EndReason.FAILED)
    again = await world.provider().launch(want(world, "a", count=2, lease_until=_lease(world, "a")))
    assert [node.ref for node in again] == [node.ref for node in nodes]
    await world.provider().terminate([nodes[0].ref])
    await status(world, "a", NodeStatus.GONE)
    assert world.processes() == []


def _lease(world: LocalWorld, token: str) -> Instant:
    sales = [json.loads(line) for line in (world.folder / "journal").read_text().splitlines()]
    return next(Instant(r["want"]["lease_until"]) for r in sales if r["kind"] == "sale" and r["want"]["token"] == token)


async def test_the_cloud_outlives_whoever_started_it() -> None:
    world = LocalWorld()
    starter = f"""
import asyncio, os
from pathlib import Path
from dsched.providers.local.host import CONSOLES_KEPT
from dsched.providers.local.options import Options
from dsched.providers.local.start import ensure
asyncio.run(ensure(Path({str(world.folder)!r}), Options()))
os.killpg(0, 9)
"""
    died = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", starter], start_new_session=True, check=False)
    assert died.returncode == -9
    assert await world.provider().offers()
    await world.close()


async def test_what_was_decided_before_the_kill_is_done_after_it(world: LocalWorld) -> None:
    provider = world.provider()
    [noticed] = await launched(world, "noticed")
    await launched(world, "leased", lease_until=Instant(world.wall() + 1_500))
    await provider.inject("interrupt", node=noticed.ref.id, lead_ms=1_500)
    world.kill_cloud()
    assert len(world.processes()) >= 2
    await ensure(world.folder, world.options)
    assert (await status(world, "noticed", NodeStatus.GONE)).ended_by is EndReason.INTERRUPTED
    assert (await status(world, "leased", NodeStatus.GONE)).ended_by is EndReason.LEASE
    assert world.processes() == []


async def test_the_market_goes_on_where_it_was_and_its_levers_stay(world: LocalWorld) -> None:
    on_demand = replace(world.pool, market=Market.ON_DEMAND)

    def mine(offers: list[Offer]) -> list[tuple[int, int | None]]:
        return [(o.quote.price, o.free) for o in offers if o.pool == on_demand and o.quote]

    await world.provider().inject("capacity", pool=on_demand.id, count=3)
    offers = mine(await world.provider().offers())
    (then, scale) = await world.provider().clock()
    world.kill_cloud()
    await ensure(world.folder, world.options)
    (now, _) = await world.provider().clock()
    assert mine(await world.provider().offers()) == offers
    assert now.market - then.market == pytest.approx((now.wall - then.wall) * scale, abs=2 * scale)


async def test_a_tree_whose_cloud_died_before_writing_it_down_ends_by_itself(tmp_path: Path) -> None:
    """Started but never let go: the crash between the effect and its record."""
    program = f"""
import asyncio, os, sys
from pathlib import Path
from dsched.providers.local.tree import best_isolation, spawn
async def main():
    folder = Path({str(tmp_path)!r})
    touch = ["touch", str(folder / "ran")]
    up = await spawn(best_isolation(), touch, env=dict(os.environ), disk=folder, console=folder / "log")
    print(up.roots.init.pid, flush=True)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    died = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], capture_output=True, check=False)
    init = int(died.stdout)
    await asyncio.to_thread(_until_dead, init)
    assert not (tmp_path / "ran").exists()


def _until_dead(pid: int) -> None:
    if psutil.pid_exists(pid):
        psutil.Process(pid).wait(WAIT_S)


async def test_a_launch_that_the_crash_cut_off_left_nothing_and_its_token_is_free(world: LocalWorld) -> None:
    wish = want(world, "a")
    world.kill_cloud()
    with (world.folder / "journal").open("a") as journal:
        journal.write(json.dumps(sale_record(wish)) + "\n" + '{"kind":"machi')  # and a torn line
    (world.folder / "nodes" / "a.0").mkdir()
    await ensure(world.folder, world.options)
    assert await world.provider().nodes(["a"]) == []
    [node] = await world.provider().launch(wish)
    assert (await status(world, "a", NodeStatus.RUNNING)).ref == node.ref


async def test_a_second_cloud_on_the_same_folder_is_refused(world: LocalWorld) -> None:
    command = [sys.executable, "-m", "dsched.providers.local", "--state", str(world.folder)]
    second = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False, timeout=WAIT_S
    )
    assert second.returncode == 3
    assert "another embedded cloud holds" in second.stderr
    assert await world.provider().offers()


async def test_ensuring_thrice_at_once_starts_one_cloud() -> None:
    world = LocalWorld()
    await asyncio.gather(*(ensure(world.folder, world.options) for _ in range(3)))
    assert await world.provider().offers()
    assert (world.folder / "cloud.log").read_text().count("cloud.ready") == 1
    assert "refused" not in (world.folder / "cloud.log").read_text()
    await world.close()


async def test_a_folder_of_another_market_is_refused_with_the_remedy(world: LocalWorld) -> None:
    await world.provider().shutdown()
    with pytest.raises(NoCloud, match=r"seed 1.*not.*seed 2.*choose another"):
        await ensure(world.folder, Options(seed=2))


async def test_sigterm_stops_the_cloud_but_not_its_nodes(world: LocalWorld) -> None:
    await launched(world, "a")
    cloud = psutil.Process(world.cloud_pid())
    cloud.terminate()
    await eventually(lambda: alive([cloud]) == [])
    assert len(world.processes("a.0")) >= 2


async def test_hints_after_a_gap_say_look_at_everything(world: LocalWorld) -> None:
    events = world.provider().events()
    first = asyncio.ensure_future(anext(events))
    await world.until(lambda: listening(world, first))
    world.kill_cloud()
    await ensure(world.folder, world.options)
    kinds = []
    while NoticeKind.GONE not in kinds or kinds[-1] is not NoticeKind.PRICES:
        kinds.append((await asyncio.wait_for(anext(events), WAIT_S)).kind)
