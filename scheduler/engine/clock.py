"""The daemon's two clocks. The only place of the control plane that reads the time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from dsched.scheduler.core.units import Instant, Moment


@dataclass(slots=True)
class Clock:
    """Market time runs `scale` times as fast as wall time since `origin`; on real clouds they are the same."""

    origin: Moment = field(default_factory=lambda: Moment(Instant(0), Instant(0)))
    scale: float = 1.0

    def now(self) -> Moment:
        wall = Instant(time.time_ns() // 1_000_000)
        return Moment(wall, Instant(self.origin.market + int((wall - self.origin.wall) * self.scale)))

    def follow(self, moment: Moment, scale: float) -> None:
        """Take over a provider's market clock."""
        self.origin, self.scale = moment, scale
