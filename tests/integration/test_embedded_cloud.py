"""The embedded cloud with real processes: what surely dies with a node, and what a node may know."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from dsched.providers.base import (
    EndReason,
    NodeStatus,
    NoticeKind,
)
from dsched.providers.local import tree
from dsched.providers.local.start import ensure
from dsched.scheduler.core.units import Instant
from tests.support.machines import FAMILY, alive, eventually, exists, grown_family, listening, status, tree_of
from tests.support.world import WAIT_S, LocalWorld, want


@pytest.fixture
async def world() -> AsyncIterator[LocalWorld]:
    async with LocalWorld() as world:
        yield world


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
    await world.until(lambda: listening(world, first))
    tree_of(world, "a.0")[1].kill()  # the init: as the out-of-memory killer would
    hint = await first
    while hint.ref != node.ref:
        hint = await asyncio.wait_for(anext(events), WAIT_S)
    assert hint.kind is NoticeKind.GONE
    assert (await status(world, "b", NodeStatus.RUNNING)).ref == decoy.ref


async def test_the_end_of_a_lease_ends_a_node_that_clings_to_life(world: LocalWorld) -> None:
    wish = want(world, "family", user_data=FAMILY, lease_until=Instant(world.wall() + 1_500))
    await world.provider().launch(wish)
    await exists(world, world.disk("family.0") / "grown-up")
    family = tree_of(world, "family.0")
    assert (await status(world, "family", NodeStatus.GONE)).ended_by is EndReason.LEASE
    assert world.wall() >= wish.lease_until
    assert alive(family) == []


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
        await eventually(lambda: (disk / "grown-up").exists())
        outer = psutil.Process(up.roots.outer.pid)
        family = [outer, *outer.children(recursive=True)]
        assert len(family) >= 5
        await up.kill()
        await up.finish()
        assert await up.exit_code() not in (None, 0)
        assert alive(family) == []
    finally:
        up.close()
