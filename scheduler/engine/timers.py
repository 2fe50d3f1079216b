"""Time as messages: one timer for the next due instant, and APScheduler for the slow periodic ticks."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Final

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from dsched.scheduler.core.units import Instant

GRID_MS: Final = 10  # instants are rounded up to this, so that a crowd of them rings a hundred times a second at most


class Alarm:
    """Calls `ring` at every wall instant it was asked for, or just after; instants that are over ring at once."""

    def __init__(self, ring: Callable[[], None], now: Callable[[], Instant]) -> None:
        self._ring, self._now = ring, now
        self._due: list[Instant] = []  # a heap without doubles
        self._known: set[Instant] = set()
        self._timer: asyncio.TimerHandle | None = None

    def at(self, instant: Instant) -> None:
        due = Instant(-(-instant // GRID_MS) * GRID_MS)
        if due in self._known:
            return
        self._known.add(due)
        heapq.heappush(self._due, due)
        if self._due[0] == due:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due:
            wait = max(0.0, (self._due[0] - self._now()) / 1000 + 0.001)
            self._timer = asyncio.get_running_loop().call_later(wait, self._fire)

    def _fire(self) -> None:
        now = self._now()
        rang = False
        while self._due and self._due[0] <= now:
            self._known.discard(heapq.heappop(self._due))
            rang = True
        if rang:
            self._ring()
        self._arm()


class Ticker:
    """Periodic calls. Late ticks are merged into one, never dropped; the truth is in the store, not in the ticker."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}, timezone="UTC"
        )

    def every(self, seconds: float, call: Callable[[], None], name: str) -> None:
        self._scheduler.add_job(_in_loop(call), "interval", seconds=seconds, id=name, name=name)

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        self._scheduler.shutdown(wait=False)


def _in_loop(call: Callable[[], None]) -> Callable[[], object]:
    """APScheduler runs coroutines in the loop and plain functions in a thread; ours belong in the loop."""

    async def tick() -> None:
        call()

    return tick
