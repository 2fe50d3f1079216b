"""A recorded market, tick by tick, in the schema `dsched.trace/1`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def ticks(trace: dict[str, Any]) -> Iterator[tuple[int, float | None]]:
    """(machines that can be had, spot price) of every tick."""
    series, stride = trace.get("spot_price_series"), trace.get("spot_price_stride") or 1
    place = 0
    for count, length in trace["counts_rle"]:
        for _ in range(length):
            usd = series[min(place // stride, len(series) - 1)] if series else trace.get("spot_price")
            yield count, usd
            place += 1
