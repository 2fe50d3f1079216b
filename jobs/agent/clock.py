"""The two clocks of a node: BOOTTIME keeps the lease, wall time is what the wire carries. Whole milliseconds."""

from __future__ import annotations

import time


def boot_ms() -> int:
    """CLOCK_BOOTTIME: counts through a suspend and knows no jumps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def to_boot(wall: int) -> int:
    """An absolute wall instant on the boot clock. Convert at receipt: later jumps of the wall clock move nothing."""
    return boot_ms() + wall - wall_ms()


def to_wall(boot: int) -> int:
    return wall_ms() + boot - boot_ms()
