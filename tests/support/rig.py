"""A loop on a disk of our own: nothing is durable before the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

from dsched.scheduler.core.effect import Effect
from dsched.scheduler.core.event import Event
from dsched.scheduler.core.message import OffersSeen
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.snapshot import State
from dsched.scheduler.core.terms import Terms
from dsched.scheduler.engine.clock import Clock
from dsched.scheduler.engine.loop import Loop
from tests.support.stage import offer


class Disk:
    """A store whose commits become durable when the test says so."""

    def __init__(self) -> None:
        self.seq = 0
        self.waiting: list[tuple[asyncio.Future[int], int]] = []
        self.auto = True

    def commit(self, events: Sequence[Event]) -> asyncio.Future[int]:
        self.seq += len(events)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self.auto:
            future.set_result(self.seq)
        else:
            self.waiting.append((future, self.seq))
        return future

    def sync(self) -> None:
        for future, seq in self.waiting:
            future.set_result(seq)
        self.waiting.clear()


class Rig:
    def __init__(self, clock: Clock | None = None) -> None:
        self.disk = Disk()
        self.published: list[tuple[int, Event]] = []
        self.carried: list[Effect] = []
        self.clock = clock or Clock()
        self.loop = Loop(
            State(cluster="c" * 32),
            self.disk,
            self.clock,
            Random(1),
            policy=Policy(),
            terms=Terms(),
            publish=self.published.extend,
            carry=self.carried.extend,
        )

    async def __aenter__(self) -> Rig:
        self.task = asyncio.create_task(self.loop.run())
        now = self.clock.now().market
        await self.loop.send(OffersSeen(provider="local", offers=(offer("us-east-1a", 20.0, at=now),)))
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)
