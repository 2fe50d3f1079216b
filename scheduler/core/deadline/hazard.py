"""How long spot capacity lasts: one curve over its age, and a factor for the place.

Availability traces of two clouds over three years (K80, V100, H100) share one law: the chance of a change falls with
the age of the state, about 0.7 / age, for capacity that is up and for outages alike. What differs from place to place
and from week to week is a factor on the whole curve, learned by counting (Gamma prior, Poisson) with forgetting.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from dsched.scheduler.core.deadline.view import Bools, Floats, Ints

HOUR: Final = 3600.0
FOREVER: Final = 1e9  # s; the end of the last age

# Ages are told apart at these edges (s): ten, the last of them open.
EDGES: Final[Floats] = np.array([0, 1 / 6, 1 / 3, 1 / 2, 1, 2, 4, 8, 16, 32, FOREVER / HOUR]) * HOUR
AGES: Final = len(EDGES) - 1

# Changes per hour by age, pooled over the public traces of `bench/agelaw.py`, which prints these two lines.
UP_LAW: Final[Floats] = np.array([1.956, 1.579, 0.980, 0.839, 0.515, 0.246, 0.161, 0.139, 0.043, 0.020]) / HOUR
DOWN_LAW: Final[Floats] = np.array([2.270, 1.440, 1.244, 0.775, 0.490, 0.268, 0.191, 0.101, 0.054, 0.018]) / HOUR

FACTOR_MIN, FACTOR_MAX = 0.1, 8.0  # beyond these a factor says more about a short history than about a place

_REACHED: Final = {id(law): np.concatenate([[0.0], np.cumsum(law * np.diff(EDGES))]) for law in (UP_LAW, DOWN_LAW)}


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
