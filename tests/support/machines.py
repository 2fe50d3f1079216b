"""Machines of an embedded cloud as its tests look at them: until they have a status, down to their processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from dsched.providers.base import Node, NodeStatus, Notice
from tests.support.world import STEP_S, WAIT_S, LocalWorld, want

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


async def status(world: LocalWorld, token: str, wanted: NodeStatus) -> Node:
    async def told() -> Node | None:
        nodes = await world.provider().nodes([token])
        return nodes[0] if nodes and all(node.status is wanted for node in nodes) else None

    return await world.until(told)


async def launched(world: LocalWorld, token: str, **changes: Any) -> list[Node]:
    """Nodes whose program runs: it has its user-data and needs the cloud no more."""
    nodes = await world.provider().launch(want(world, token, **changes))
    for node in nodes:
        await world.user_data(node.ref)
    return nodes


def tree_of(world: LocalWorld, node: str) -> list[psutil.Process]:
    """Every process below the node's outermost one, marked or not."""
    [outer] = [p for p in psutil.Process(world.cloud_pid()).children() if any(node in word for word in p.cmdline())]
    return [outer, *outer.children(recursive=True)]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


async def exists(world: LocalWorld, path: Path) -> None:
    async def there() -> bool | None:
        return path.exists() or None

    await world.until(there)


async def grown_family(world: LocalWorld) -> tuple[Node, list[psutil.Process]]:
    [node] = await world.provider().launch(want(world, "family", user_data=FAMILY))
    await exists(world, world.disk("family.0") / "grown-up")
    return node, tree_of(world, "family.0")


async def listening(world: LocalWorld, first: asyncio.Future[Notice]) -> bool | None:
    """Whether the stream of hints that `first` waits for has begun: it is given something to tell."""
    await world.provider().inject("price", pool=world.pool.id, factor=1.0 + time.monotonic() % 1)
    return first.done() or None


async def eventually(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not fact():
            await asyncio.sleep(STEP_S)
