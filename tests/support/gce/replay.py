"""Let a zone do what a recorded market did: its capacity, the interruptions that follow, and its spot price."""

from __future__ import annotations

from typing import Any

from tests.support.gce.catalog import skus
from tests.support.gce.cloud import Gce
from tests.support.tape import ticks


class Replay:
    """A trace in the schema `dsched.trace/1`, moved on by `play`, so that the caller owns the time.

    Compute Engine has one spot price per region: the trace's moves are applied to the whole price list, against its
    first price.
    """

    def __init__(self, cloud: Gce, trace: dict[str, Any], shape: str, zone: str) -> None:
        self._cloud, self._shape, self._zone = cloud, shape, zone
        self._ticks = ticks(trace)
        self._first: float | None = None

    def play(self) -> bool:
        """One tick: of those that are too many the youngest go first. False: the trace is over."""
        tick = next(self._ticks, None)
        if tick is None:
            return False
        count, usd = tick
        cloud = self._cloud
        with cloud.changed:
            cloud.settle()
            cloud.capacity[self._zone, self._shape, "SPOT"] = count
            held = [one for one in cloud.machines.values() if (one.zone, one.shape, one.model) == self._pool]
            for one in sorted(held, key=lambda one: one.born)[count:]:
                cloud.preempt(one.zone, one.name)
            if usd is not None:
                self._first = self._first or usd
                cloud.skus = skus([self._zone.rpartition("-")[0]], spot=usd / self._first)
        return True

    @property
    def _pool(self) -> tuple[str, str, str]:
        return self._zone, self._shape, "SPOT"
