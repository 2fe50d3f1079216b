"""Request latencies: counted where they happen for a few additions, made a histogram by /v1/metrics."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


@dataclass(slots=True)
class Histogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    total_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them."""
        got, sums = 0, []
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self.counts, strict=True):
            got += count
            sums.append((bound, float(got)))
        return sums


@dataclass(slots=True)
class Meter:
    """One histogram per route and kind of status. Routes are the table's, so there are few."""

    latencies: dict[tuple[str, str, str], Histogram] = field(default_factory=dict)  # method, path pattern, "2xx"

    def add(self, method: str, path: str, status: int, seconds: float) -> None:
        key = (method, path, f"{status // 100}xx")
        histogram = self.latencies.get(key)
        if histogram is None:
            histogram = self.latencies[key] = Histogram()
        histogram.add(seconds)
