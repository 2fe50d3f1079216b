"""When to look again: every full twenty minutes of market time, so that jobs that are due are asked together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from dsched.scheduler.core.deadline.cheapest import runs_spot
from dsched.scheduler.core.deadline.view import SPOT, Batch, Choices, DeadlinePolicy

EVERY: Final = 1200.0  # s: half as many questions as at ten minutes, for a thousandth of the cost; at thirty it shows


@dataclass(frozen=True, slots=True)
class Patient:
    """`inner`, asked at full multiples of `every` (s), and at once when a pool comes or goes.

    A job that makes progress on the only spot option that there is has nothing to decide before that one goes.
    """

    inner: DeadlinePolicy
    every: float = EVERY

    @property
    def name(self) -> str:
        return self.inner.name

    def choose(self, batch: Batch) -> Choices:
        choices = self.inner.choose(batch)
        due = (np.floor(batch.now / self.every + 1e-9) + 1.0) * self.every
        alone = (batch.usable & (batch.market == SPOT)).sum(axis=1) == 1
        settled = alone & runs_spot(batch) & (choices.target == batch.running) & (batch.warm_in <= 0)
        return replace(choices, revisit=np.where(settled, np.inf, np.maximum(due, choices.revisit)))
