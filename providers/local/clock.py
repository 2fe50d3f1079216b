"""The market's clock: wall time, sped up by one scale factor."""

from __future__ import annotations

import time
from dataclasses import dataclass

from dsched.scheduler.core.units import Instant, Millis, Moment


def wall_now() -> Instant:
    return Instant(time.time_ns() // 1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketClock:
    """market = origin + (wall - origin_wall) * scale. It runs on while nobody looks, also while the cloud is down."""

    birth: Instant  # market time of the first start: tapes and scripts count from here
    origin: Instant
    origin_wall: Instant
    scale: float

    def market(self, wall: Instant) -> Instant:
        return Instant(self.origin + round((wall - self.origin_wall) * self.scale))

    def moment(self) -> Moment:
        wall = wall_now()
        return Moment(wall=wall, market=self.market(wall))

    def age(self, wall: Instant) -> Millis:
        """Market time since the birth."""
        return Millis(self.market(wall) - self.birth)

    def wall_left(self, age: Millis, wall: Instant) -> float:
        """Wall seconds until the market is `age` old; never negative."""
        return max(0.0, (age - self.age(wall)) / self.scale / 1000)

    def rescaled(self, scale: float, wall: Instant) -> MarketClock:
        """The same clock at another speed from `wall` on: market time never jumps."""
        return MarketClock(birth=self.birth, origin=self.market(wall), origin_wall=wall, scale=scale)
