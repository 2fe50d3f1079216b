"""What measured steps teach about speed: a conjugate normal on its logarithm.

The logarithm of a gang's speed is its prior (roofline, or peak FLOPS) plus
    unit    one number for the model: how far the prior is off everywhere
    chip    one number per GPU model
    slope   x log2(GPUs / 8): what each doubling gains less than twice, the scaling curve f(n) = n^(1 + slope)
    kind    one number per (GPU model, GPUs, layout)
and all of them are normal, so that the posterior is exact and a few additions (a Gaussian process with a linear kernel;
Rasmussen & Williams 2006, section 2.2). Measuring eight GPUs of one kind tells much about sixteen of the same, less
about another chip, and nothing takes more evidence than it is worth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, NamedTuple

from dsched.scheduler.core.speed.roofline import PRIOR_SIGMA

KINDS_MAX: Final = (
    24  # kinds of gang remembered per model: what a model runs on in its life, and a millisecond to solve
)
REPORT_SIGMA: Final = 0.15  # of one report of a step's time: neighbours, data loading, garbage
REPORTS_WORTH: Final = 25.0  # reports of one gang are not independent: more of them add nothing
ANCHOR: Final = 8.0  # GPUs at which the slope is worth nothing


class Widths(NamedTuple):
    """Standard deviations of the parts, before anything is measured."""

    unit: float
    chip: float
    slope: float  # per doubling
    kind: float


ROOFLINE: Final = Widths(unit=PRIOR_SIGMA, chip=0.15, slope=0.06, kind=0.05)
UNKNOWN: Final = Widths(unit=10.0, chip=0.3, slope=0.1, kind=0.1)
"""Where the prior is only peak FLOPS: its unit is not the measurement's, and communication is not in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What was measured on one kind of gang."""

    accelerator: str
    gpus: int
    layout: str
    prior: float  # ln of the speed that was believed when it was first measured
    reports: float = 0.0
    mean: float = 0.0  # of ln(speed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All that is known of one model's speed. A row: what was learned with money survives a restart. Key: the model."""

    model: str
    kinds: tuple[Kind, ...] = ()  # the one that was measured last stands last
    absolute: bool = True  # tokens per second; else steps per second, good for ratios only


class Belief(NamedTuple):
    """Of ln(speed / prior)."""

    mean: float
    sigma: float


def learn(known: Measured, kind: Kind, speed: float, reports: float) -> Measured:
    """Add the mean of `reports` measurements of `speed`. Raises ValueError unless both are positive and finite."""
    if not (speed > 0 and reports > 0 and math.isfinite(speed) and math.isfinite(reports)):
        raise ValueError(f"not a measured speed: {speed} of {reports} reports")
    same = [k for k in known.kinds if _place(k) == _place(kind)]
    others = tuple(k for k in known.kinds if _place(k) != _place(kind))
    old = same[0] if same else kind
    # Older evidence counts for at most as much as REPORTS_WORTH, so that a changed program is followed.
    before = min(old.reports, REPORTS_WORTH)
    mean = (old.mean * before + math.log(speed) * reports) / (before + reports)
    return replace(known, kinds=(*others, replace(old, reports=before + reports, mean=mean))[-KINDS_MAX:])


def believe(known: Measured | None, kind: Kind, widths: Widths) -> Belief:
    """The posterior of one kind of gang; without any evidence the prior: no correction, and how sure that is."""
    here = _covariance(kind, kind, widths)
    if known is None or not known.kinds:
        return Belief(0.0, math.sqrt(here))
    lower, weights = _solved(known, widths)
    across = [_covariance(kind, k, widths) for k in known.kinds]
    mean = sum(a * w for a, w in zip(across, weights, strict=True))
    explained = _forward(lower, across)
    return Belief(mean, math.sqrt(max(0.0, here - sum(e * e for e in explained))))


def slope(known: Measured | None, widths: Widths) -> float:
    """The learned scaling: speed grows like GPUs^(1 + slope) relative to the prior."""
    if known is None or not known.kinds:
        return 0.0
    _, weights = _solved(known, widths)
    return sum(widths.slope**2 * _doublings(k) * w for k, w in zip(known.kinds, weights, strict=True)) / math.log(2)


def _place(kind: Kind) -> tuple[str, int, str]:
    return kind.accelerator, kind.gpus, kind.layout


def _doublings(kind: Kind) -> float:
    return math.log2(kind.gpus / ANCHOR)


def _covariance(a: Kind, b: Kind, widths: Widths) -> float:
    shared = widths.unit**2 + widths.slope**2 * _doublings(a) * _doublings(b)
    if a.accelerator == b.accelerator:
        shared += widths.chip**2
    return shared + widths.kind**2 if _place(a) == _place(b) else shared


@lru_cache(maxsize=256)
def _solved(known: Measured, widths: Widths) -> tuple[list[list[float]], list[float]]:
    """The Cholesky factor of the evidence's covariance, and its product with what was seen beyond the prior."""
    kinds = known.kinds
    rows = [[_covariance(a, b, widths) for b in kinds] for a in kinds]
    for place, kind in enumerate(kinds):
        rows[place][place] += REPORT_SIGMA**2 / min(kind.reports, REPORTS_WORTH)
    lower = _cholesky(rows)
    return lower, _backward(lower, _forward(lower, [k.mean - k.prior for k in kinds]))


def _cholesky(rows: list[list[float]]) -> list[list[float]]:
    """L with L x L^T = rows, which is positive definite: noise stands on its diagonal."""
    lower: list[list[float]] = []
    for i, row in enumerate(rows):
        made: list[float] = []
        for j in range(i):
            inner = sum(a * b for a, b in zip(made, lower[j], strict=False))
            made.append((row[j] - inner) / lower[j][j])
        lower.append([*made, math.sqrt(row[i] - sum(a * a for a in made))])
    return lower


def _forward(lower: list[list[float]], right: list[float]) -> list[float]:
    solved: list[float] = []
    for row, value in zip(lower, right, strict=True):
        solved.append((value - sum(a * b for a, b in zip(row, solved, strict=False))) / row[-1])
    return solved


def _backward(lower: list[list[float]], right: list[float]) -> list[float]:
    solved = [0.0] * len(right)
    for i in reversed(range(len(right))):
        inner = sum(lower[j][i] * solved[j] for j in range(i + 1, len(right)))
        solved[i] = (right[i] - inner) / lower[i][i]
    return solved
