"""Machines of an embedded cloud as its tests look at them: until they have a status, down to their processes."""

from __future__ import annotations

from typing import Any

import psutil

from dsched.providers.base import Node, NodeStatus
from tests.support.world import LocalWorld, want


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
