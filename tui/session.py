"""What all screens of one run share: the daemon, what is known of it, the clocks, and what this person may do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dsched.scheduler.core.units import Instant, Moment
from dsched.tui.board import Board
from dsched.tui.feed import PACE_S
from dsched.tui.source import Source


def wall_clock() -> Instant:
    return Instant(time.time_ns() // 1_000_000)


@dataclass(slots=True, kw_only=True)
class Session:
    source: Source
    readonly: bool = False
    board: Board = field(default_factory=Board)
    wall: Callable[[], Instant] = wall_clock
    clock: Callable[[], float] = time.monotonic
    pace: float = PACE_S  # seconds between two batches of news
    frozen: bool = False

    def now(self) -> Moment:
        """On the daemon's clocks."""
        return self.board.moment(self.wall())
