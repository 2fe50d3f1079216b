"""The price of time: what a job costs to its end, by time left, slack, and the state of the market.

One spot market (a zone, or a tier of zones seen as one) is up or down, each at one of ten ages. A job idles, runs on
spot, or runs on demand. Running burns the time left R and keeps the slack s; idling burns both; a launch burns its
changeover d of slack. Backward induction over R gives W[R, s, phase, mode], in units of the spot price per hour. The
work does not appear: it is R - s, so one table serves every job with the same changeover and price ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsched.scheduler.core.deadline.hazard import AGES, DOWN_LAW, EDGES, HOUR, UP_LAW
from dsched.scheduler.core.deadline.view import Floats

Singles = NDArray[np.float32]

RUINED: Final = 1e6  # spot hours: stands for a state from which the deadline cannot be kept
FINE: Final = 16  # slack levels at quarters of a changeover before the grid widens
PHASES: Final = 2 * AGES  # up by age, then down by age
STRIDE: Final = 2  # steps of the induction between times that are kept: values are nearly straight in R


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """The parameters of one market as a policy meets it."""

    ratio: float  # on-demand price / spot price
    up: float = 1.0  # factor on the up law
    down: float = 1.0  # factor on the down law
    hop: float = 0.0  # probability that another zone is up at an interruption
    entry: tuple[float, ...] = (1.0,) + (0.0,) * (AGES - 1)  # ages of the zones so entered
    fee: float = 0.0  # egress of a launch, spot hours


@dataclass(frozen=True, slots=True)
class Grid:
    """Where tables are computed: R = n * step for n = 0 .. steps, s on `slack` (s, ascending from 0)."""

    step: float
    steps: int
    slack: Floats  # [S]
    fine: float  # spacing of the first FINE + 1 levels
    growth: float  # log ratio of neighbours beyond them; 0: there is none

    @property
    def kept(self) -> int:
        """How many times are kept, from R = 0 on, STRIDE steps apart."""
        return -(-self.steps // STRIDE) + 1

    @classmethod
    def spanning(cls, horizon: float, slack_max: float, changeover: float, *, step: float, wide: int) -> Grid:
        """A grid to `horizon` and `slack_max` (s) for a changeover (s), with `wide` levels beyond the fine ones."""
        fine = max(changeover, 30.0) / 4.0
        levels = np.arange(FINE + 1) * fine
        top = max(slack_max, levels[-1] * 1.5)
        beyond = np.geomspace(levels[-1], top, wide + 1)[1:]
        growth = float(np.log(top / levels[-1]) / wide)
        return cls(step, int(np.ceil(horizon / step)), np.concatenate([levels, beyond]), fine, growth)

    def place(self, slack: Floats) -> Floats:
        """The fractional index of a slack, clipped to the grid: linear between levels of the fine part."""
        fine_top = self.fine * FINE
        beyond = FINE + np.log(np.maximum(slack, fine_top) / fine_top) / self.growth
        index = np.where(slack < fine_top, slack / self.fine, beyond)
        return np.asarray(np.clip(index, 0.0, len(self.slack) - 1.0))


@dataclass(frozen=True, slots=True)
class Table:
    """W of one regime in spot hours at the phases that decisions look up, [2 + AGES, K, S] at every STRIDE-th time.

    Just up; taken in elsewhere after an interruption; down by age.
    """

    idle: Singles  # nothing runs
    held: Singles  # on demand runs, paid and warm


def solve(regimes: Sequence[Regime], grid: Grid, changeover: float) -> list[Table]:
    """W of every regime by backward induction, all regimes at once.

    Launch values are taken before this step's minima: on-demand straight to spot right after a launch is never best.
    """
    ratio = np.array([r.ratio for r in regimes], np.float32)[:, None, None]
    fee = np.array([r.fee for r in regimes], np.float32)[:, None, None]
    entry = np.array([r.entry for r in regimes], np.float32)[:, :, None]  # [T, AGES, 1]
    move = _moves(regimes, grid.step)  # [T, PHASES, PHASES]
    stay, fail = _parted(move, regimes, grid.step)
    later, launch = _Shift(grid.slack, grid.step), _Shift(grid.slack, changeover)
    shape = (len(regimes), len(grid.slack), PHASES)
    idle, held = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    spot = np.zeros((*shape[:2], AGES), np.float32)
    kept = np.zeros((2, len(regimes), 2 + AGES, grid.kept, len(grid.slack)), np.float32)
    for n in range(1, (grid.kept - 1) * STRIDE + 1):
        work = n * grid.step - grid.slack
        paid = (np.clip(work, 0.0, grid.step) / HOUR).astype(np.float32)[None, :, None]
        spot = paid + spot @ stay + idle @ fail
        held = ratio * paid + held @ move
        to_spot, to_held = launch(spot) + fee, launch(held)
        idle = np.minimum(later(idle @ move), to_held)
        np.minimum(idle[:, :, :AGES], to_spot, out=idle[:, :, :AGES])
        np.minimum(held[:, :, :AGES], to_spot, out=held[:, :, :AGES])
        np.minimum(held, idle, out=held)
        done = int(np.searchsorted(grid.slack, n * grid.step - 1e-6))
        idle[:, done:], held[:, done:], spot[:, done:] = 0.0, 0.0, 0.0
        if n % STRIDE == 0:
            for mode, values in enumerate((idle, held)):
                _keep(kept[mode, :, :, n // STRIDE], values, entry)
    return [Table(kept[0, t].copy(), kept[1, t].copy()) for t in range(len(regimes))]


def _keep(out: Singles, values: Singles, entry: Singles) -> None:
    """Write the looked-up phases [T, 2 + AGES, S] of values [T, S, PHASES]."""
    out[:, 0] = values[:, :, 0]
    out[:, 1] = (values[:, :, :AGES] @ entry)[:, :, 0]
    out[:, 2:] = values[:, :, AGES:].transpose(0, 2, 1)


class _Shift:
    """Values at slack s - by, for values at the grid's levels."""

    __slots__ = ("below", "lost", "low", "weight")

    def __init__(self, slack: Floats, by: float) -> None:
        at = slack - by
        self.below = np.clip(np.searchsorted(slack, at + 1e-6, side="right") - 1, 0, len(slack) - 2)
        span = slack[self.below + 1] - slack[self.below]
        self.weight = np.clip((at - slack[self.below]) / span, 0.0, 1.0).astype(np.float32)[None, :, None]
        self.low = np.float32(1.0) - self.weight
        self.lost = int(np.searchsorted(at, -1e-6))  # levels from which nothing can be paid

    def __call__(self, values: Singles) -> Singles:
        out = values[:, self.below] * self.low + values[:, self.below + 1] * self.weight
        out[:, : self.lost] = RUINED
        return np.asarray(out, np.float32)


def _moves(regimes: Sequence[Regime], step: float) -> Singles:
    """[T, to, from]: the chance to be in a phase one step later, laid out for values @ moves."""
    width = np.diff(EDGES)
    older = np.minimum(1.0, step / width)
    older[-1] = 0.0
    out = np.zeros((len(regimes), PHASES, PHASES))
    for t, regime in enumerate(regimes):
        up_ends = -np.expm1(-UP_LAW * regime.up * step)
        down_ends = -np.expm1(-DOWN_LAW * regime.down * step)
        for age in range(AGES):
            after = min(age + 1, AGES - 1)
            down = AGES + age
            out[t, age, age] += (1 - up_ends[age]) * (1 - older[age])
            out[t, after, age] += (1 - up_ends[age]) * older[age]
            out[t, :AGES, age] += up_ends[age] * regime.hop * np.array(regime.entry)
            out[t, AGES, age] += up_ends[age] * (1 - regime.hop)
            out[t, down, down] += (1 - down_ends[age]) * (1 - older[age])
            out[t, AGES + after, down] += (1 - down_ends[age]) * older[age]
            out[t, 0, down] += down_ends[age]
    return out.astype(np.float32)


def _parted(move: Singles, regimes: Sequence[Regime], step: float) -> tuple[Singles, Singles]:
    """The moves out of up phases [T, to, AGES]: those that keep the zone (to: AGES), that lose it (PHASES)."""
    fail = np.zeros((len(regimes), PHASES, AGES), np.float32)
    for t, regime in enumerate(regimes):
        lost = -np.expm1(-UP_LAW * regime.up * step).astype(np.float32)
        fail[t, :AGES] = np.outer(np.array(regime.entry, np.float32) * np.float32(regime.hop), lost)
        fail[t, AGES] = lost * np.float32(1.0 - regime.hop)
    return (move[:, :AGES, :AGES] - fail[:, :AGES]).copy(), fail
