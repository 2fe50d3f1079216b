"""How good our predictions of interruptions were: Brier score and reliability table.

A prediction is a probability that a machine is interrupted within an hour. Later it happened or it did not; where we
gave the machine back ourselves nobody knows, and the prediction does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

EDGES: Final = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
"""Of the table's rows: most predictions are small, so the rows are narrow there."""


class Outcome(NamedTuple):
    chance: float  # predicted, 0..1
    happened: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The predictions between two edges: a good forecaster's `predicted` and `happened` are equal."""

    low: float
    high: float
    count: int
    predicted: float  # mean chance
    happened: float  # share


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    count: int
    brier: float | None  # mean of (chance - happened)^2 (Brier 1950): 0 is perfect; None: nothing to judge yet
    base: float | None  # the same for whoever always says the share that happened: worth knowing only below it
    rows: tuple[Row, ...]  # those with predictions

    @property
    def skill(self) -> float | None:
        """1 - brier / base: above 0 the predictions know more than the average does."""
        return None if self.brier is None or not self.base else 1.0 - self.brier / self.base


def judge(outcomes: Sequence[Outcome]) -> Calibration:
    """Judge predictions by what happened."""
    if not outcomes:
        return Calibration(count=0, brier=None, base=None, rows=())
    count = len(outcomes)
    share = sum(o.happened for o in outcomes) / count
    return Calibration(
        count=count,
        brier=sum((o.chance - o.happened) ** 2 for o in outcomes) / count,
        base=share * (1.0 - share),
        rows=tuple(row for low, high in pairwise(EDGES) if (row := _row(outcomes, low, high))),
    )


def _row(outcomes: Sequence[Outcome], low: float, high: float) -> Row | None:
    within = [o for o in outcomes if low <= o.chance < high or (o.chance == high == EDGES[-1])]
    if not within:
        return None
    return Row(
        low=low,
        high=high,
        count=len(within),
        predicted=sum(o.chance for o in within) / len(within),
        happened=sum(o.happened for o in within) / len(within),
    )
