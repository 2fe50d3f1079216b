"""The embedded cloud with real processes: what survives a kill -9, and what surely dies."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from dsched.providers.base import (
    Ambiguous,
    Capacity,
    EndReason,
    Invalid,
    Node,
    NodeStatus,
    Notice,
    NoticeKind,
    ProviderError,
    Quota,
)
from dsched.providers.local import tree
from dsched.providers.local.fleet import sale_record
from dsched.providers.local.options import Options
from dsched.providers.local.provider import LocalProvider
from dsched.providers.local.start import NoCloud, ensure
from dsched.scheduler.core.market import Market, Offer
from dsched.scheduler.core.units import Instant, Millis
from tests.support.machines import alive, launched, status, tree_of
from tests.support.world import LocalWorld, want

# A family that does all it can to get away: in sessions of their own, without the node's environment, deaf to SIGTERM,
# stopped.
FAMILY = """#!/bin/sh
trap '' TERM
setsid env -i PATH="$PATH" sh -c 'sleep 3600' &
setsid setsid sleep 3601 &
sleep 3602 &
kill -STOP $!
touch grown-up
wait
"""
GCP = {"zone": "us-central1-a", "shape": "g2-standard-4"}


@pytest.fixture
async def world() -> AsyncIterator[LocalWorld]:
    async with LocalWorld() as world:
        yield world


async def exists(world: LocalWorld, path: Path) -> None:
    async def there() -> bool | None:
        return path.exists() or None

    await world.until(there)


async def grown_family(world: LocalWorld) -> tuple[Node, list[psutil.Process]]:
    [node] = await world.provider().launch(want(world, "family", user_data=FAMILY))
    await exists(world, world.disk("family.0") / "grown-up")
    return node, tree_of(world, "family.0")


@pytest.mark.parametrize("notice", [True, False], ids=["after a notice", "without notice"])
async def test_an_interruption_leaves_nothing_of_a_node_alive(world: LocalWorld, notice: bool) -> None:
    node, family = await grown_family(world)
    assert len(family) >= 7  # unshare, init, node program, script, and three that want to get away
    await world.interrupt(node.ref, notice=notice)
    assert (await status(world, "family", NodeStatus.GONE)).ended_by is EndReason.INTERRUPTED
    assert alive(family) == []  # the proof comes after the fact, not before


async def test_the_disk_of_a_node_ends_with_it_and_so_do_the_names_that_lead_there(world: LocalWorld) -> None:
    [node] = await world.provider().launch(want(world, "a"))
    assert world.disk("a.0").is_dir()
    name = Path("/tmp") / f"dsched-test-{os.getpid()}"
    name.symlink_to(world.disk("a.0") / "run")
    await world.provider().terminate([node.ref])

    async def cleared() -> bool | None:
        return None if world.disk("a.0").exists() or name.is_symlink() else True

    await world.until(cleared)


async def test_a_node_knows_nothing_of_the_environment_of_whoever_started_the_cloud(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    async with LocalWorld() as world:
        await world.provider().launch(
            want(world, "a", user_data="#!/bin/sh\nenv > env.new && mv env.new env; sleep 3600\n")
        )
        await exists(world, world.disk("a.0") / "env")
        told = dict(line.partition("=")[::2] for line in (world.disk("a.0") / "env").read_text().splitlines())
    assert "AWS_SECRET_ACCESS_KEY" not in told
    assert told["HOME"] == told["DSCHED_NODE_DIR"]
    assert told["DSCHED_METADATA_FLAVOUR"] == "aws"


async def test_orphans_on_a_node_are_reaped(world: LocalWorld) -> None:
    orphans = "#!/bin/sh\nfor i in 1 2 3 4 5; do (sleep 0.01 &) ; done; sleep 0.1; touch done; sleep 3600\n"
    await world.provider().launch(want(world, "a", user_data=orphans))
    await exists(world, world.disk("a.0") / "done")

    async def no_zombies() -> bool | None:
        return all(p.status() != psutil.STATUS_ZOMBIE for p in tree_of(world, "a.0")) or None

    await world.until(no_zombies)


async def test_a_node_whose_program_ends_is_gone_within_a_moment_and_says_by_whom(world: LocalWorld) -> None:
    launch = world.provider().launch
    await launch(want(world, "leaves", user_data="#!/bin/sh\nsleep 3600 & exit 0\n"))
    await launch(want(world, "breaks", user_data="#!/bin/sh\nsleep 3600 & exit 1\n"))
    await launch(want(world, "killed", user_data="#!/bin/sh\nkill -KILL $PPID\n"))
    assert (await status(world, "leaves", NodeStatus.GONE)).ended_by is EndReason.ASKED
    assert (await status(world, "breaks", NodeStatus.GONE)).ended_by is EndReason.FAILED
    assert (await status(world, "killed", NodeStatus.GONE)).ended_by is EndReason.FAILED
    assert world.processes() == []


async def test_a_node_killed_from_outside_is_hinted_by_its_pidfd(world: LocalWorld) -> None:
    [node] = await world.provider().launch(want(world, "a"))
    events = world.provider().events()
    first = asyncio.ensure_future(anext(events))
    [decoy] = await world.provider().launch(want(world, "b"))
    await world.until(lambda: _listening(world, first))
    tree_of(world, "a.0")[1].kill()  # the init: as the out-of-memory killer would
    hint = await first
    while hint.ref != node.ref:
        hint = await asyncio.wait_for(anext(events), 5)
    assert hint.kind is NoticeKind.GONE
    assert (await status(world, "b", NodeStatus.RUNNING)).ref == decoy.ref


async def _listening(world: LocalWorld, first: asyncio.Future[Notice]) -> bool | None:
    await world.provider().inject("price", pool=world.pool.id, factor=1.0 + time.monotonic() % 1)
    return first.done() or None


async def test_the_end_of_a_lease_ends_a_node_that_clings_to_life(world: LocalWorld) -> None:
    wish = want(world, "family", user_data=FAMILY, lease_until=Instant(world.wall() + 1_500))
    await world.provider().launch(wish)
    await exists(world, world.disk("family.0") / "grown-up")
    family = tree_of(world, "family.0")
    assert (await status(world, "family", NodeStatus.GONE)).ended_by is EndReason.LEASE
    assert world.wall() >= wish.lease_until
    assert alive(family) == []


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


@pytest.mark.parametrize("how", ["interrupt", "keeper killed", "cloud killed"])
async def test_without_namespaces_a_node_dies_as_a_whole_too(how: str) -> None:
    async with LocalWorld(isolation=tree.Isolation.KEEPER) as world:
        script = "#!/bin/sh\nsetsid sleep 3600 &\nsleep 3601 &\ntouch grown-up\nwait\n"
        [node] = await world.provider().launch(want(world, "a", user_data=script))
        await exists(world, world.disk("a.0") / "grown-up")
        family = tree_of(world, "a.0")
        assert len(family) >= 5
        if how == "keeper killed":
            family[0].kill()
        else:
            if how == "cloud killed":
                world.kill_cloud()
                await ensure(world.folder, world.options)
            await world.interrupt(node.ref, notice=False)
        expected = EndReason.FAILED if how == "keeper killed" else EndReason.INTERRUPTED
        assert (await status(world, "a", NodeStatus.GONE)).ended_by is expected
        assert alive(family) == []


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
        psutil.Process(pid).wait(5)


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
    second = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=10)
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
    await _wait_for(lambda: alive([cloud]) == [])
    assert len(world.processes("a.0")) >= 2


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


async def test_hints_after_a_gap_say_look_at_everything(world: LocalWorld) -> None:
    events = world.provider().events()
    first = asyncio.ensure_future(anext(events))
    await world.until(lambda: _listening(world, first))
    world.kill_cloud()
    await ensure(world.folder, world.options)
    kinds = []
    while NoticeKind.GONE not in kinds or kinds[-1] is not NoticeKind.PRICES:
        kinds.append((await asyncio.wait_for(anext(events), 5)).kind)


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


@pytest.mark.parametrize("isolation", list(tree.Isolation))
async def test_every_isolation_kills_a_whole_family(isolation: tree.Isolation, tmp_path: Path) -> None:
    if isolation is not tree.Isolation.KEEPER and not tree.permitted(isolation):
        pytest.skip(f"{isolation} is not permitted here")
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "family").write_text(FAMILY)
    env = {"PATH": os.environ["PATH"], "DSCHED_NODE_DIR": str(disk)}
    up = await tree.spawn(isolation, ["sh", str(disk / "family")], env=env, disk=disk, console=tmp_path / "log")
    try:
        up.let_go()
        await _wait_for(lambda: (disk / "grown-up").exists())
        outer = psutil.Process(up.roots.outer.pid)
        family = [outer, *outer.children(recursive=True)]
        assert len(family) >= 5
        await up.kill()
        await up.finish()
        assert await up.exit_code() not in (None, 0)
        assert alive(family) == []
    finally:
        up.close()


async def _wait_for(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not fact():
            await asyncio.sleep(0.01)


@pytest.fixture(params=["aws", "gcp"])
async def node_of(request: pytest.FixtureRequest) -> AsyncIterator[tuple[LocalWorld, Node, httpx.AsyncClient]]:
    """A node of each dialect, with a client that talks to its metadata service."""
    async with LocalWorld(**(GCP if request.param == "gcp" else {})) as world:
        [node] = await world.provider().launch(want(world, "a", user_data="hello"))
        await exists(world, world.disk("a.0") / "user-data")
        base = world.processes("a.0")[0].environ()["DSCHED_METADATA"]
        async with httpx.AsyncClient(base_url=base, timeout=10) as client:
            yield world, node, client


@pytest.mark.parametrize("node_of", ["aws"], indirect=True)
async def test_imdsv2_needs_a_token_and_tells_of_the_interruption(
    node_of: tuple[LocalWorld, Node, httpx.AsyncClient],
) -> None:
    world, node, client = node_of
    meta = "/latest/meta-data"
    assert (await client.get(f"{meta}/instance-id")).status_code == 401
    assert (await client.get(f"{meta}/instance-id", headers={"X-aws-ec2-metadata-token": "guess"})).status_code == 401
    assert (await client.put("/latest/api/token")).status_code == 400  # without a lifetime
    granted = await client.put("/latest/api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    client.headers["X-aws-ec2-metadata-token"] = granted.text
    assert (await client.get(f"{meta}/instance-id")).text == node.ref.id
    assert (await client.get(f"{meta}/placement/availability-zone-id")).text == world.pool.zone
    assert (await client.get(f"{meta}/instance-type")).text == world.pool.shape
    assert (await client.get(f"{meta}/ami-launch-index")).text == "0"
    assert (await client.get("/latest/user-data")).text == "hello"
    assert (await client.get(f"{meta}/spot/instance-action")).status_code == 404
    assert (await client.get(f"{meta}/events/recommendations/rebalance")).status_code == 404
    assert (await client.get("/computeMetadata/v1/instance/id")).status_code == 404
    await world.provider().inject("rebalance", node=node.ref.id)
    assert "noticeTime" in (await client.get(f"{meta}/events/recommendations/rebalance")).json()
    await world.provider().inject("interrupt", node=node.ref.id, lead_ms=5_000)
    action = (await client.get(f"{meta}/spot/instance-action")).json()
    assert action["action"] == "terminate"
    assert action["time"].endswith("Z")


@pytest.mark.parametrize("node_of", ["gcp"], indirect=True)
async def test_the_gce_metadata_server_needs_its_header_and_holds_a_get_until_the_notice(
    node_of: tuple[LocalWorld, Node, httpx.AsyncClient],
) -> None:
    world, node, client = node_of
    root = "/computeMetadata/v1/instance"
    assert (await client.get(f"{root}/id")).status_code == 403
    client.headers["Metadata-Flavor"] = "Google"
    assert (await client.get(f"{root}/id")).text.isdigit()
    assert (await client.get(f"{root}/zone")).text.endswith("/zones/us-central1-a")
    assert (await client.get(f"{root}/machine-type")).text.endswith("/machineTypes/g2-standard-4")
    assert (await client.get(f"{root}/attributes/user-data")).text == "hello"
    assert (await client.get(f"{root}/attributes/launch-index")).text == "0"
    assert (await client.get("/latest/meta-data/instance-id")).status_code == 404
    now = await client.get(f"{root}/preempted")
    assert (now.text, now.headers["Metadata-Flavor"]) == ("FALSE", "Google")
    wait = {"wait_for_change": "true", "last_etag": now.headers["ETag"]}
    brief = await client.get(f"{root}/preempted", params={**wait, "timeout_sec": "0"})
    assert (brief.text, brief.headers["ETag"]) == ("FALSE", now.headers["ETag"])
    assert (await client.get(f"{root}/preempted", params={**wait, "last_etag": "0"})).text == "FALSE"  # at once
    hanging = asyncio.create_task(client.get(f"{root}/preempted", params=wait))
    await client.get(f"{root}/id")  # the hanging one does not hold up others
    assert not hanging.done()
    await world.provider().inject("interrupt", node=node.ref.id, lead_ms=5_000)
    assert (await hanging).text == "TRUE"
    assert 0 < int((await client.get(f"{root}/attributes/preemption-notice-ms")).text) <= 5_000


async def test_metadata_is_served_again_after_a_restart_of_the_cloud(
    node_of: tuple[LocalWorld, Node, httpx.AsyncClient],
) -> None:
    world, node, client = node_of
    await world.provider().inject("interrupt", node=node.ref.id, lead_ms=60_000)
    world.kill_cloud()
    with pytest.raises(httpx.TransportError):
        await client.get("/")
    await ensure(world.folder, world.options)
    if world.pool.zone == "use1-az1":
        granted = await client.put("/latest/api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        path, headers = "/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": granted.text}
    else:
        path, headers = "/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"}
    told = await client.get(path, headers=headers)
    assert "terminate" in told.text or told.text == "TRUE"
