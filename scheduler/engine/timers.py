"""Time as messages: one timer for the next due instant. The slow periodic ticks are ticker.py's."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Final

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
