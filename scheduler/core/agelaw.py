"""How long spot capacity lasts, as numbers: one curve over its age.

Availability traces of two clouds over three years (K80, V100, H100) share one law: the chance of a change falls with
the age of the state, about 0.7 / age, for capacity that is up and for outages alike. What differs from place to place
and from week to week is a factor on the whole curve. Plain numbers: hazard.py judges one pool at a time, for which
arrays would take ten times as long; deadline/hazard.py has the same law for whole batches.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Final

HOUR: Final = 3600.0
FOREVER: Final = 1e9  # s; the end of the last age

# Ages are told apart at these edges (s): ten, the last of them open.
EDGES: Final = tuple(h * HOUR for h in (0.0, 1 / 6, 1 / 3, 1 / 2, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, FOREVER / HOUR))

# Changes per hour by age, pooled over the public traces of `bench/agelaw.py`, which prints these two lines.
UP_PER_HOUR: Final = (1.956, 1.579, 0.980, 0.839, 0.515, 0.246, 0.161, 0.139, 0.043, 0.020)
DOWN_PER_HOUR: Final = (2.270, 1.440, 1.244, 0.775, 0.490, 0.268, 0.191, 0.101, 0.054, 0.018)

FACTOR_MIN, FACTOR_MAX = 0.1, 8.0  # beyond these a factor says more about a short history than about a place


def reached(per_hour: tuple[float, ...]) -> tuple[float, ...]:
    """The integral of a law at each of the edges, from age 0: the expected changes of a state renewed on the spot."""
    widths = (after - before for before, after in pairwise(EDGES))
    return tuple(accumulate((rate / HOUR * width for rate, width in zip(per_hour, widths, strict=True)), initial=0.0))
