"""Ratios to the exact optimum, cell by cell: what a table of a placement bench shows.

A cell is one set at one slack, changeover and price ratio. Its ratio is the sum of costs over the sum of optima, so
that dear jobs count as what they are; means are over cells. Windows of jobs overlap, so intervals resample blocks of
time, not jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from dsched.scheduler.core.deadline.view import Floats, Ints

ENOUGH: Final = 40  # jobs from which on a cell's loss counts
TAIL: Final = 90.0  # percentile of the per-job ratio
BLOCK: Final = 7 * 86_400.0  # s of trace that are drawn together
DRAWS: Final = 400  # of a bootstrap: its own error is then a twentieth of the interval


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cell:
    """The jobs of one policy in one cell."""

    set: str
    single: bool
    slack: float
    changeover: float  # s
    ratio: float  # on-demand over spot; 0: the set's own prices
    policy: str
    cost: Floats  # [J] $
    optimum: Floats  # [J] $
    on_demand: Floats  # [J] $ of doing it all on-demand
    egress: Floats  # [J] $
    launches: Ints  # [J]
    misses: int
    block: Ints  # [J] which stretch of which zones' time

    @property
    def key(self) -> tuple[str, float, float, float]:
        return self.set, self.slack, self.changeover, self.ratio

    @property
    def over(self) -> float:
        """Cost over optimum, as sums."""
        return float(self.cost.sum() / self.optimum.sum())


def mean_over(cells: Iterable[Cell]) -> float:
    return float(np.mean([cell.over for cell in cells]))


def tail_over(cells: Iterable[Cell]) -> float:
    """The 90th percentile of the per-job ratio."""
    return float(np.percentile(np.concatenate([cell.cost / cell.optimum for cell in cells]), TAIL))


def saving(cells: Sequence[Cell]) -> float:
    """Share of the on-demand cost that was saved."""
    return 1.0 - float(sum(cell.cost.sum() for cell in cells) / sum(cell.on_demand.sum() for cell in cells))


def loss(cell: Cell, peers: Sequence[Cell]) -> float:
    """How much dearer a cell was than the cheapest of its peers: 0.03 is 3 %."""
    return float(cell.cost.sum() / min(peer.cost.sum() for peer in peers) - 1)


def worst_loss(cells: Sequence[Cell], peers: Sequence[Cell]) -> tuple[float, Cell | None]:
    """The largest loss against the cheapest peer over cells of enough jobs, and where it was; nan: there is none."""
    by_key: dict[tuple[str, float, float, float], list[Cell]] = {}
    for peer in peers:
        by_key.setdefault(peer.key, []).append(peer)
    losses = [(loss(cell, by_key[cell.key]), index) for index, cell in enumerate(cells) if len(cell.cost) >= ENOUGH]
    if not losses:
        return float("nan"), None
    worst, index = max(losses)
    return worst, cells[index]


def interval(cells: Sequence[Cell], seed: int) -> tuple[float, float]:
    """The 95 % interval of the mean over cells, blocks of each set being drawn again together for all of its cells."""
    luck = np.random.default_rng(seed)
    by_set: Mapping[str, list[Cell]] = {
        name: [cell for cell in cells if cell.set == name] for name in sorted({cell.set for cell in cells})
    }
    total = np.zeros(DRAWS)
    for some in by_set.values():
        blocks = np.unique(np.concatenate([cell.block for cell in some]))
        weight = luck.multinomial(len(blocks), np.full(len(blocks), 1 / len(blocks)), DRAWS)
        for cell in some:
            at = np.searchsorted(blocks, cell.block)
            paid, least = weight[:, at] @ cell.cost, weight[:, at] @ cell.optimum
            total += np.where(least > 0, paid / np.where(least > 0, least, 1.0), cell.over)
    low, high = np.percentile(total / len(cells), [2.5, 97.5])
    return float(low), float(high)
