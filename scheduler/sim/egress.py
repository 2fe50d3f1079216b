"""What it costs to bring a checkpoint from one region to another, where there is no contract to read it from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from dsched.scheduler.core.deadline.view import Floats

NEAR: Final = 0.02  # $/GB within a continent
FAR: Final = 0.05  # between North America and Europe
FARTHEST: Final = 0.08  # to, from or within neither of them
BIG: Final = 20.0  # $/h on-demand: dearer machines hold several of the newest GPUs, whose jobs have big checkpoints
BIG_GB: Final = 50.0
SMALL_GB: Final = 10.0
_CONTINENTS: Final = {"us": "america", "northamerica": "america", "ca": "america", "eu": "europe", "europe": "europe"}


def continent(region: str) -> str:
    head = region.partition("-")[0]
    return _CONTINENTS.get(head, head)


def per_gigabyte(regions: Sequence[str]) -> Floats:
    """[R, R] $/GB from a region (row) to a region. It pays never to go by way of a third one."""
    table = np.zeros((len(regions), len(regions)))
    for row, source in enumerate(regions):
        for column, target in enumerate(regions):
            one, other = continent(source), continent(target)
            if source == target:
                continue
            if one == other:
                table[row, column] = NEAR
            else:
                table[row, column] = FAR if {one, other} == {"america", "europe"} else FARTHEST
    return table


def checkpoint_gb(on_demand: float) -> float:
    """The size of a checkpoint, guessed from what a machine of its kind costs per hour."""
    return BIG_GB if on_demand > BIG else SMALL_GB
