"""What a run says of itself beside its loss: utilisation, balance, memory that grows, data that changes. No torch.

mfu               share of the device's peak that the model's own arithmetic used (PaLM, arXiv 2204.02311)
grad_norm         of the whole gradient, before it is clipped
expert_load       the fullest expert's tokens over the mean of its layer, worst layer; 1 is balance
drift             distance of this batch's bytes from those of the batches before, 0 to 1
memory_mib_per_h  slope of the resident memory over the last minutes, once it is one
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

MIB: Final = 1 << 20
HOUR_S: Final = 3600.0

# FLOP/s of dense bf16 products. NVIDIA's data sheets; without sparsity.
PEAKS: Final = {"H200": 989e12, "H100": 989e12, "B200": 2250e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}

MEMORY_EVERY_S: Final = 1.0
MEMORY_SAMPLES: Final = 600  # ten minutes
MEMORY_SAMPLES_MIN: Final = 60  # before that a slope is the allocator warming up
T_MIN: Final = 6.0  # standard errors that a slope must be away from none; samples are correlated, so more than usual
DRIFT_MEMORY: Final = 0.05  # weight of a batch in what is usual: about twenty batches


def peak_of(device_name: str) -> float | None:
    """FLOP/s in bf16; None where it is not known, as for any CPU: then there is no MFU either."""
    words = device_name.replace("-", " ").split()
    return next((peak for name, peak in PEAKS.items() if name in words), None)


def mfu(tokens_per_s: float | None, flops_per_token: float, peak: float | None, devices: int) -> float | None:
    if tokens_per_s is None or peak is None:
        return None
    return round(tokens_per_s * flops_per_token / (peak * devices), 4)


def imbalance(counts: Sequence[Sequence[int]]) -> float | None:
    """Of counts per layer and expert; None without experts."""
    worst = [max(layer) * len(layer) / total for layer in counts if (total := sum(layer))]
    return round(max(worst), 3) if worst else None


class Drift:
    """Hellinger distance between a batch's histogram and the usual one: 0 for equal, 1 for nothing in common."""

    def __init__(self) -> None:
        self._usual: list[float] = []

    def look(self, histogram: Sequence[int]) -> float | None:
        """None for the first batch."""
        total = sum(histogram)
        shares = [count / total for count in histogram]
        if not self._usual:
            self._usual = shares
            return None
        overlap = sum(math.sqrt(a * b) for a, b in zip(self._usual, shares, strict=True))
        self._usual = [a + DRIFT_MEMORY * (b - a) for a, b in zip(self._usual, shares, strict=True)]
        return round(math.sqrt(max(0.0, 1.0 - overlap)), 4)


class Leak:
    """The slope of the resident memory, where it is certainly not none."""

    def __init__(
        self,
        resident: Callable[[], int] = lambda: resident_bytes(),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resident, self._monotonic = resident, monotonic
        self._samples: deque[tuple[float, float]] = deque(maxlen=MEMORY_SAMPLES)  # s, MiB
        self._next = monotonic()

    def look(self) -> float | None:
        """MiB per hour; None while nothing can be said. Call it every step: it looks once a second."""
        now = self._monotonic()
        if now >= self._next:
            self._next = now + MEMORY_EVERY_S
            self._samples.append((now, self._resident() / MIB))
        return _slope(self._samples)


def _slope(samples: Sequence[tuple[float, float]]) -> float | None:
    """Least squares, per hour, where it is positive and beyond `T_MIN` standard errors."""
    n = len(samples)
    if n < MEMORY_SAMPLES_MIN:
        return None
    mean_t, mean_y = (sum(each[axis] for each in samples) / n for axis in (0, 1))
    tt = sum((t - mean_t) ** 2 for t, _ in samples)
    if not tt:
        return None
    slope = sum((t - mean_t) * (y - mean_y) for t, y in samples) / tt
    left = sum((y - mean_y - slope * (t - mean_t)) ** 2 for t, y in samples)
    error = math.sqrt(left / (n - 2) / tt)
    return round(slope * HOUR_S, 3) if slope > T_MIN * error else None


def resident_bytes() -> int:
    """0 where the kernel does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
