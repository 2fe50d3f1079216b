"""Let a pool do what a recorded market did: its price, its capacity, and the interruptions that follow."""

from __future__ import annotations

import threading
import time
from typing import Any

from tests.support.awscloud import machines
from tests.support.awscloud.state import Market, Prices
from tests.support.tape import ticks


class Replay(threading.Thread):
    """A trace in the schema `dsched.trace/1`, `scale` market seconds per wall second."""

    def __init__(self, market: Market, trace: dict[str, Any], shape: str, zone: str, scale: float) -> None:
        super().__init__(daemon=True)
        self._market, self._shape, self._zone = market, shape, zone
        self._ticks = ticks(trace)
        self._gap_s = trace["gap_seconds"] / scale if scale else 0.0
        self._over = threading.Event()

    def run(self) -> None:
        while self.advance() and not self._over.wait(self._gap_s):
            pass

    def advance(self) -> bool:
        """Play the next tick; False after the last."""
        tick = next(self._ticks, None)
        if tick is not None:
            self.play(*tick)
        return tick is not None

    def stop(self) -> None:
        self._over.set()

    def play(self, count: int, usd: float | None) -> None:
        """One tick: of those that are too many the youngest go first."""
        pool, region = (self._shape, self._zone, "spot"), self._zone[:-1]
        with self._market.lock:
            ours = [m for m in machines.machines(region) if machines.pool_of(m) == pool and m._state.name == "running"]
            steps = self._market.prices.setdefault(pool[:2], Prices())
            if usd is not None and steps.now(time.time()) != usd:
                steps.add(time.time(), usd)
        for one in sorted(ours, key=lambda m: m.launch_time)[count:]:
            machines.reclaim(self._market, region, one.id, "Server.SpotInstanceTermination")
        with self._market.lock:
            self._market.capacity[pool] = max(0, count - len(ours))
