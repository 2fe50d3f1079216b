"""How busy the node is: CPU and memory of its own processes, and its GPUs. Every ten seconds, in a thread of its own.

Its own processes only: on one machine several nodes may be embedded, and each must tell what its ranks use.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

from dsched.jobs.agent import proc
from dsched.jobs.agent.clock import boot_ms, wall_ms
from dsched.jobs.agent.nvml import Nvml
from dsched.scheduler.wire.agent import Telemetry

EVERY_S: Final = 10.0
MIB: Final = 1024 * 1024


class Meter:
    """Differences between looks."""

    def __init__(self) -> None:
        self._cores = os.cpu_count() or 1
        self._ticks: dict[int, int] = {}
        self._looked_at = boot_ms()

    def read(self, gpus: Nvml | None) -> Telemetry:
        rows, now = proc.scan(), boot_ms()
        own = {pid: rows[pid] for pid in proc.below(os.getpid(), rows)}
        spent = sum(max(0, row.ticks - self._ticks.get(pid, 0)) for pid, row in own.items())
        passed_s = max(1, now - self._looked_at) / 1_000
        told: Telemetry = {
            "kind": "telemetry",
            "cpu_share": round(min(1.0, spent / proc.TICKS_PER_S / passed_s / self._cores), 4),
            "memory_mib": sum(row.pages for row in own.values()) * proc.PAGE // MIB,
            "at": wall_ms(),
        }
        self._ticks, self._looked_at = {pid: row.ticks for pid, row in own.items()}, now
        if gpus is not None:
            used = gpus.used()
            if used is not None:
                told["gpu_share"], told["gpu_memory_mib"] = used
        return told


def measure(gpus: Callable[[], Nvml | None], tell: Callable[[Telemetry], None]) -> None:
    """For ever."""
    meter = Meter()
    while True:
        time.sleep(EVERY_S)
        tell(meter.read(gpus()))
