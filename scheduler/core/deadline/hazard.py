"""The age law of spot capacity (core/agelaw.py) over arrays, and a factor for the place.

The factor on the whole curve is learned by counting (Gamma prior, Poisson) with forgetting.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from dsched.scheduler.core import agelaw
from dsched.scheduler.core.agelaw import FACTOR_MAX, FACTOR_MIN
from dsched.scheduler.core.agelaw import HOUR as HOUR
from dsched.scheduler.core.deadline.view import Bools, Floats, Ints

EDGES: Final[Floats] = np.array(agelaw.EDGES)
AGES: Final = len(EDGES) - 1

UP_LAW: Final[Floats] = np.array(agelaw.UP_PER_HOUR) / HOUR
DOWN_LAW: Final[Floats] = np.array(agelaw.DOWN_PER_HOUR) / HOUR

_REACHED: Final = {
    id(law): np.array(agelaw.reached(per_hour))
    for law, per_hour in ((UP_LAW, agelaw.UP_PER_HOUR), (DOWN_LAW, agelaw.DOWN_PER_HOUR))
}


def ages(age: ArrayLike) -> Ints:
    """The index of the age class, 0 .. AGES - 1, of an age in seconds."""
    return np.clip(np.searchsorted(EDGES, age, side="right") - 1, 0, AGES - 1)


def accrued(age: ArrayLike, law: Floats = UP_LAW) -> Floats:
    """The integral of the law from age 0: the expected changes of a state that is renewed on the spot."""
    return np.asarray(np.interp(np.asarray(age, np.float64), EDGES, _REACHED[id(law)]))


def lasting(age: ArrayLike, span: ArrayLike, factor: ArrayLike, law: Floats = UP_LAW) -> Floats:
    """The probability that a state of this age (s) lasts for `span` (s) more."""
    more = accrued(np.add(age, span), law) - accrued(age, law)
    return np.exp(-np.multiply(factor, more))


def expected_life(age: ArrayLike, factor: ArrayLike, cap: float) -> Floats:
    """Seconds that capacity of this age will still be up, counting none beyond `cap`.

    The hazard is constant within an age class, so each class adds S * (1 - exp(-h L)) / h in closed form.
    """
    old = np.asarray(age, np.float64)[..., None]
    low, high = np.maximum(EDGES[:-1], old), np.minimum(EDGES[1:], old + cap)
    span = np.maximum(high - low, 0.0)  # [..., AGES]
    rate = np.asarray(factor, np.float64)[..., None] * UP_LAW
    worn = np.exp(-rate * span)
    before = np.cumprod(np.concatenate([np.ones_like(worn[..., :1]), worn[..., :-1]], axis=-1), axis=-1)
    return np.asarray((before * (1.0 - worn) / rate).sum(axis=-1))


class Tally:
    """Changes seen against changes that the law expected, per place, both forgotten at the same rate.

    The posterior mean of the factor under a Gamma(weight, weight) prior: (seen + weight) / (expected + weight).
    """

    __slots__ = ("expected", "keep", "seen", "weight")

    def __init__(self, places: int, *, weight: float, half_life: float, gap: float) -> None:
        """`half_life` and `gap` (from one look to the next) in seconds; `weight` in expected changes."""
        self.seen: Floats = np.zeros(places)
        self.expected: Floats = np.zeros(places)
        self.weight = weight
        self.keep = 0.5 ** (gap / half_life)

    def add(self, seen: Floats | Bools, expected: Floats) -> None:
        """One look, arrays [places]."""
        self.seen = self.seen * self.keep + seen
        self.expected = self.expected * self.keep + expected

    def factor(self) -> Floats:
        """[places] posterior means."""
        mean = (self.seen + self.weight) / (self.expected + self.weight)
        return np.asarray(np.clip(mean, FACTOR_MIN, FACTOR_MAX))
