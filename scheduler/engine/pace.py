"""When the planner may think: at once while that takes no time, else once those who wait have their answers.

A pass over many classes of jobs takes tens of milliseconds. It would stand between submissions that are durable already
and their answers, and nobody who submits needs it to be answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

QUICK_SECONDS: Final = 0.005  # a pass that takes no longer stays in the transaction of what caused it
PATIENCE_SECONDS: Final = 0.05  # a longer one waits so long for answers; under a flood of submissions they never end


@dataclass(slots=True)
class Pace:
    owed: int = 0  # answers that are not given yet
    took: float = 0.0  # seconds, the last pass
    put_off: float | None = None  # since when a pass has been due, on the caller's monotonic clock

    def due(self, now: float) -> bool:
        """Whether the pass that is wanted may run now."""
        if self.took <= QUICK_SECONDS or not self.owed:
            return True
        if self.put_off is None:
            self.put_off = now
        return now - self.put_off >= PATIENCE_SECONDS

    def passed(self, seconds: float) -> None:
        self.took, self.put_off = seconds, None
