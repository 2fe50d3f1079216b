"""`[[held]]` of the settings: reservations, capacity blocks and commitments, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dsched.scheduler.core.hold import Hold
from dsched.scheduler.core.units import HOUR, Instant, price


def read(row: Mapping[str, Any]) -> Hold:
    """From settings. Raises ValueError."""
    known = {"pool", "count", "price", "from", "until", "name"}
    if unknown := sorted(row.keys() - known):
        raise ValueError(f"unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}")
    pattern, count = row.get("pool"), row.get("count")
    if not isinstance(pattern, str) or pattern.count("/") != 2:
        raise ValueError(f"pool = {pattern!r} is no glob over provider/zone/shape such as aws/use1-az4/p5*")
    if type(count) is not int or count < 1:
        raise ValueError(f"{pattern}: count = {count!r}: must be a number of machines, at least 1")
    if type(row.get("price")) not in (int, float, str):
        raise ValueError(f"{pattern}: price = {row.get('price')!r}: must be dollars per hour and machine, such as 43.2")
    each = price(row["price"])
    start, end = _instant(row, "from", pattern), _instant(row, "until", pattern)
    if start is not None and end is not None and end - start < HOUR:
        raise ValueError(f"{pattern}: until must be an hour or more after from")
    return Hold(str(row.get("name") or pattern), pattern, count, each, start, end)


def _instant(row: Mapping[str, Any], key: str, pattern: str) -> Instant | None:
    told = row.get(key)
    if told is None:
        return None
    if not isinstance(told, datetime) or told.tzinfo is None:
        raise ValueError(f"{pattern}: {key} = {told}: must be a time with its zone, such as 2027-01-31T11:30:00Z")
    return Instant(round(told.timestamp() * 1000))
