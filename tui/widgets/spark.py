"""A line of text from a row of numbers, as wide as asked."""

from __future__ import annotations

from collections.abc import Sequence

from dsched.scheduler.view.format import sparkline


def spark(values: Sequence[float], width: int, *, low: float | None = None, high: float | None = None) -> str:
    """The values squeezed into at most `width` cells, the largest of each; the scale is theirs unless it is given."""
    if not values or width <= 0:
        return ""
    cells = min(width, len(values))
    count = len(values)
    peaks = [
        max(values[count * i // cells : max(count * i // cells + 1, count * (i + 1) // cells)]) for i in range(cells)
    ]
    return sparkline(peaks, min(peaks) if low is None else low, max(peaks) if high is None else high)
