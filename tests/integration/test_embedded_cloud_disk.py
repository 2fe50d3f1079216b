"""The embedded cloud and its disk: full for a while, and after a long time."""

from __future__ import annotations

import os
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from dsched.providers.base import Ambiguous, EndReason, NodeStatus
from dsched.providers.local.host import CONSOLES_KEPT
from dsched.scheduler.core.units import Instant
from tests.support.machines import alive, launched, status, tree_of
from tests.support.world import LocalWorld, want


@pytest.fixture
async def world() -> AsyncIterator[LocalWorld]:
    async with LocalWorld() as world:
        yield world


@contextmanager
def full_disk(world: LocalWorld, room: int = 0) -> Iterator[None]:
    """The running cloud can write `room` more bytes to its journal, and no file can be longer."""
    size = (world.folder / "journal").stat().st_size
    before = resource.prlimit(world.cloud_pid(), resource.RLIMIT_FSIZE)
    resource.prlimit(world.cloud_pid(), resource.RLIMIT_FSIZE, (size + room, before[1]))
    yield
    resource.prlimit(world.cloud_pid(), resource.RLIMIT_FSIZE, before)


async def test_an_end_that_the_full_disk_did_not_take_is_written_when_there_is_room(world: LocalWorld) -> None:
    short = Instant(world.wall() + 3_000)
    await launched(world, "lease", lease_until=short)
    await launched(world, "killed")
    families = [tree_of(world, f"{token}.0") for token in ("lease", "killed")]
    with full_disk(world):
        families[1][0].kill()

        async def dead() -> bool | None:
            return (world.wall() > short and not any(alive(family) for family in families)) or None

        await world.until(dead)  # a lease ends although nobody can write that down
    assert (await status(world, "killed", NodeStatus.GONE)).ended_by is EndReason.FAILED
    assert (await status(world, "lease", NodeStatus.GONE)).ended_by is EndReason.LEASE
    world.kill_cloud()
    await world.open()
    assert {node.status for node in await world.provider().nodes()} == {NodeStatus.GONE}


@pytest.mark.parametrize("part", [0, 1], ids=["the wish", "the machines"])
async def test_a_launch_on_a_full_disk_leaves_nothing_and_its_token_is_free(world: LocalWorld, part: int) -> None:
    await launched(world, "aa")
    lines = (world.folder / "journal").read_bytes().splitlines(keepends=True)
    with full_disk(world, room=part * len(lines[-2]) + 20), pytest.raises(Ambiguous):
        await world.provider().launch(want(world, "bb"))
    assert not world.disk("bb.0").exists()
    await launched(world, "bb")
    assert (await status(world, "bb", NodeStatus.RUNNING)).token == "bb"


async def test_the_consoles_of_dead_machines_are_kept_for_a_while_only(
    world: LocalWorld,
) -> None:
    folder = world.folder / "consoles"
    for number in range(CONSOLES_KEPT):
        (folder / f"old.{number}.log").touch()
        os.utime(folder / f"old.{number}.log", (number, number))
    [node] = await launched(world, "a")
    await world.provider().terminate([node.ref])

    async def swept() -> bool | None:
        return not (folder / "old.0.log").exists() or None

    await world.until(swept)
    assert len(list(folder.iterdir())) == CONSOLES_KEPT
