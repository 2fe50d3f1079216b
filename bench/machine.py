"""What this machine can do by itself right now: a plain loop, a sync of its disk, the start of an interpreter.

Every figure stands beside one of these, taken in the same run: the machine may be shared, and slow for reasons that
are not ours.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bench.figure import share

LOOPS: Final = 1_000_000
SYNCS: Final = 400
TRIES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    loop_ms: float  # LOOPS turns of a plain loop, best of TRIES
    sync_ms: float  # p50 of fdatasync after writing 4 KiB
    syncs_per_s: float
    python_ms: float  # start and end of a bare interpreter, best of TRIES
    python_mib: float  # resident memory of one
    load: float

    @classmethod
    def now(cls, folder: Path) -> Self:
        syncs = _syncs(folder)
        return cls(
            loop_ms=min(_loop() for _ in range(TRIES)) * 1e3,
            sync_ms=share(syncs, 0.5) * 1e3,
            syncs_per_s=len(syncs) / sum(syncs),
            python_ms=min(_python() for _ in range(TRIES)) * 1e3,
            python_mib=_python_mib(),
            load=os.getloadavg()[0],
        )

    def __str__(self) -> str:
        return (
            f"{os.cpu_count()} cores, load {self.load:.1f}; {LOOPS:,} loops {self.loop_ms:.0f} ms; "
            f"fdatasync p50 {self.sync_ms:.3f} ms, {self.syncs_per_s:,.0f}/s; "
            f"python -c pass {self.python_ms:.0f} ms, {self.python_mib:.0f} MiB"
        )


def _loop() -> float:
    began = time.perf_counter()
    total = 0
    for number in range(LOOPS):
        total += number & 7
    return time.perf_counter() - began


def _syncs(folder: Path) -> list[float]:
    taken = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(SYNCS):
            os.pwrite(file.fileno(), b"x" * 4096, 0)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return taken


def _python() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - began


def _python_mib() -> float:
    code = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    return int(subprocess.check_output([sys.executable, "-c", code])) / 1024


def cpu_s() -> float:
    """CPU seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
