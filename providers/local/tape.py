"""A tape: what one pool can carry and what it costs, step by step, from the market's birth on.

A tape is cut in chunks of equal length that are made when they are first looked at, so that the state at any age is
found at once, also after weeks and a restart. A replayed trace is one chunk that comes again and again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dsched.scheduler.core.units import MicroUsdPerHour, Millis

CHUNKS_KEPT: Final = 2  # the market only moves forward: the present chunk, and the next one at its edge


@dataclass(frozen=True, slots=True)
class Step:
    at: Millis  # since the beginning of its chunk; the first step of a chunk is at 0
    capacity: int  # nodes that the pool carries, those in use included
    price: MicroUsdPerHour
    since: Millis  # when the present run with (or without) capacity began, same scale as `at`; may be negative


class Tape:
    """Steps by age. `chunk(k)` must give the same steps whenever it is asked."""

    def __init__(self, length: Millis, chunk: Callable[[int], Sequence[Step]]) -> None:
        self._length = length
        self._make = chunk
        self._kept: OrderedDict[int, tuple[list[int], Sequence[Step]]] = OrderedDict()

    def at(self, age: Millis) -> Step:
        """The step in force, moved to the market's own scale."""
        number, inside = divmod(age, self._length)
        ats, steps = self._chunk(number)
        step, start = steps[bisect_right(ats, inside) - 1], number * self._length
        return Step(Millis(step.at + start), step.capacity, step.price, Millis(step.since + start))

    def next(self, age: Millis) -> Millis:
        """The age at which the next step begins."""
        number, inside = divmod(age, self._length)
        ats, _ = self._chunk(number)
        following = bisect_right(ats, inside)
        return Millis(number * self._length + (ats[following] if following < len(ats) else self._length))

    def _chunk(self, number: int) -> tuple[list[int], Sequence[Step]]:
        if number not in self._kept:
            steps = self._make(number)
            self._kept[number] = [step.at for step in steps], steps
            while len(self._kept) > CHUNKS_KEPT:
                self._kept.popitem(last=False)
        return self._kept[number]


def constant(capacity: int, price: MicroUsdPerHour) -> Tape:
    """A pool that never changes: on-demand and reserved capacity."""
    year = Millis(365 * 86_400_000)
    return Tape(year, lambda _: (Step(Millis(0), capacity, price, Millis(0)),))
