"""The virtual clock: time stands still while something is done, and then jumps to what is due next."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Final

from dsched.scheduler.core.units import Instant, Millis, Moment

EVENTS_MAX: Final = 200_000_000  # of one run: far beyond a year of a busy fleet; a loop that feeds itself ends here

Due = tuple[int, int, Callable[..., None], tuple[Any, ...]]


class Agenda:
    """What is to happen when, on the wall clock; equal instants in the order in which they were asked for.

    Market time runs `scale` times as fast from the same start.
    """

    def __init__(self, start: Instant, scale: float = 1.0) -> None:
        self.start, self.scale = start, scale
        self.now = Moment(start, start)
        self.done = 0  # events so far
        self._heap: list[Due] = []
        self._asked = 0

    def at(self, wall: int, call: Callable[..., None], *given: Any) -> None:
        """Call at this wall instant; an instant that is over means next."""
        self._asked += 1
        heapq.heappush(self._heap, (max(wall, self.now.wall), self._asked, call, given))

    def after(self, wait: Millis, call: Callable[..., None], *given: Any) -> None:
        self.at(self.now.wall + wait, call, *given)

    def run(self, until: int) -> None:
        """Everything that is due up to and including this wall instant, which then is now."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            wall, _, call, given = heapq.heappop(heap)
            if wall > self.now.wall:
                self.now = self.moment(wall)
            self.done += 1
            if self.done > EVENTS_MAX:
                raise RuntimeError(f"{EVENTS_MAX:,} events, and still {len(heap):,} to come: something feeds itself")
            call(*given)
        if until > self.now.wall:
            self.now = self.moment(until)

    def moment(self, wall: int) -> Moment:
        return Moment(Instant(wall), Instant(self.start + int((wall - self.start) * self.scale)))

    @property
    def next(self) -> int | None:
        """The wall instant of the next event; None when nothing is to come."""
        return self._heap[0][0] if self._heap else None
