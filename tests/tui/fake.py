"""A daemon in memory behind the TUI's port, frozen clocks, and an app on them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from textual.pilot import Pilot

from dsched.scheduler.core.units import Instant
from dsched.scheduler.wire.api import Act, Attempt, Event, Feed, LogLine, Money, Offer, Plan
from dsched.tui.app import Top
from dsched.tui.session import Session
from dsched.tui.source import SourceError
from tests.tui import fleet

PATIENCE_S = 60.0  # for a fact on a busy machine; what comes, comes in milliseconds


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wall(self) -> Instant:
        return Instant(fleet.WALL + int(self.seconds * 1000))

    def monotonic(self) -> float:
        return self.seconds


class FakeDaemon:
    def __init__(self, first: Feed | None = None) -> None:
        self.first = first
        self.frames: asyncio.Queue[tuple[str, Feed | None] | SourceError | None] = asyncio.Queue()
        self.acts: list[tuple[str, str, Act]] = []
        self.answers: dict[str, Any] = {
            "plan": fleet.plan(chosen=fleet.pool(1), lines=[fleet.line(1, price="14.10", verdict="chosen")]),
            "gain": {"per_hour": "3.82", "from": "17.92", "to": "14.10"},
        }
        self.refusal: SourceError | None = None
        self.plans: list[Plan] = [fleet.plan()]
        self.lines: list[LogLine] = []
        self.connects = 0

    @property
    def address(self) -> str:
        return "/run/dsched/api.sock"

    async def feed(self) -> AsyncIterator[tuple[str, Feed | None]]:
        self.connects += 1
        if self.first is None:
            raise SourceError("no daemon at /run/dsched/api.sock", "systemctl start dsched", absent=True)
        yield "snapshot", self.first
        while True:
            frame = await self.frames.get()
            if isinstance(frame, SourceError):
                raise frame
            if frame is None:
                return
            yield frame

    def push(self, feed: Feed) -> None:
        self.frames.put_nowait(("delta", feed))

    async def money(self) -> Money:
        return fleet.money()

    async def offers(self) -> list[Offer]:
        return self.first["offers"] if self.first else []

    async def attempts(self, job: str) -> list[Attempt]:
        return fleet.attempts()

    async def events(self, job: str, limit: int) -> list[Event]:
        return fleet.events()[-limit:]

    async def explain(self, job: str) -> list[Plan]:
        return self.plans

    async def log(self, job: str) -> AsyncIterator[LogLine]:
        for line in self.lines:
            yield line

    async def act(self, job: str, action: str, body: Act) -> dict[str, Any]:
        if self.refusal is not None:
            raise self.refusal
        self.acts.append((job, action, body))
        return self.answers


class Run:
    """An app under test."""

    def __init__(self, app: Top, pilot: Pilot[None], daemon: FakeDaemon, clock: Clock) -> None:
        self.app, self.pilot, self.daemon, self.clock = app, pilot, daemon, clock
        self.main = app.main

    async def settle(self) -> None:
        """Until every message that is on its way was handled and painted."""
        for _ in range(2):
            await self.pilot.pause()

    async def push(self, feed: Feed) -> None:
        self.daemon.push(feed)
        await self.settle()

    async def until(self, fact: Callable[[], bool]) -> None:
        """Wait for something to be so."""
        async with asyncio.timeout(PATIENCE_S):
            while not fact():
                await self.pilot.pause(0.01)
        await self.settle()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.settle()

    def text(self) -> str:
        """What stands on the screen, without colours."""
        lines = [line.text.rstrip() for line in self.app.screen._compositor.render_strips()]
        return "\n".join(lines) + "\n"


@contextlib.asynccontextmanager
async def running(
    daemon: FakeDaemon | None = None, *, size: tuple[int, int] = (120, 30), readonly: bool = False
) -> AsyncIterator[Run]:
    daemon = FakeDaemon(fleet.snapshot()) if daemon is None else daemon
    clock = Clock()
    app = Top(Session(source=daemon, readonly=readonly, wall=clock.wall, clock=clock.monotonic, pace=0.0))
    async with app.run_test(size=size, notifications=True) as pilot:
        run = Run(app, pilot, daemon, clock)
        await run.settle()
        yield run
