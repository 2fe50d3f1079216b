"""What interruptions leave of an hour that is paid for."""

from __future__ import annotations

import math
from typing import Final

from dsched.scheduler.core.units import HOUR, Millis

LEAST: Final = 1e-6  # keeps arithmetic finite; an offer this bad loses every comparison anyway
_EXPONENT_MAX: Final = 500.0  # exp() of more is above any float we could use


def checkpoint_interval(write: Millis, mtbf: Millis) -> Millis:
    """The interval that loses least to writing and rework together: sqrt(2 * write * mtbf).

    Young's first-order optimum (CACM 1974); trust it while `write` is well below `mtbf`. Raises ValueError if either
    is <= 0.
    """
    if write <= 0 or mtbf <= 0:
        raise ValueError(f"a checkpoint of {write} ms every mtbf of {mtbf} ms has no best interval")
    return Millis(max(1, round(math.sqrt(2.0 * write * mtbf))))


def goodput(*, hazard: float, unwarned: float, restart: Millis, write: Millis, every: Millis) -> float:
    """The useful share of paid time, in LEAST..1.

    `hazard` is every interruption per hour, `unwarned` those of them that come without a notice in which a checkpoint
    fits: only they cost rework. Exact for exponential gaps (Daly, FGCS 2006): a segment of `every + write` must pass
    without an unwarned interruption, and each interruption costs restarts until one survives:
    exp(-hazard * restart) * unwarned * every / (exp(unwarned * (every + write)) - 1).
    """
    restarts = hazard * restart / HOUR
    segment = unwarned * (every + write) / HOUR
    if restarts > _EXPONENT_MAX or segment > _EXPONENT_MAX:
        return LEAST
    written = every / (every + write)
    kept = 1.0 if segment == 0 else segment / math.expm1(segment)
    return max(LEAST, math.exp(-restarts) * written * kept)
