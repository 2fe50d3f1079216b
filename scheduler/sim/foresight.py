"""What a daemon would have known at each tick of a recorded world, and would have foreseen from it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import numpy as np

from dsched.scheduler.core.deadline.chronicle import Chronicle, Reading
from dsched.scheduler.core.deadline.outlook import EPOCH, Library, Outlook, foresee
from dsched.scheduler.core.deadline.view import Floats
from dsched.scheduler.sim.world import World

OUTLOOKS_KEPT: Final = 8  # jobs go through a world together, so an older one is not asked for again
TOGETHER: Final = 16  # epochs whose tables are solved in one go


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """A world as a chronicle saw it go by."""

    readings: dict[int, Reading]  # by tick, one an epoch
    factor: Floats  # [T, Z] of the zones on the age law, as known at each tick
    spot: Floats  # [T, Z] $/h that were seen


def past(world: World) -> Past:
    """One look per tick, none of them ahead. Prices beyond their level do not matter to the factors."""
    book = Chronicle(len(world.zones), world.gap, world.egress[np.ix_(world.region, world.region)])
    readings: dict[int, Reading] = {}
    factor = np.ones(world.state.shape)
    state = world.state.astype(np.int64)
    for tick in range(world.ticks):
        book.observe(state[tick], world.spot[tick])
        factor[tick] = book.factor_up
        if tick == _epoch_tick(world.gap, tick):
            readings[tick] = book.reading()
    return Past(readings, factor, world.spot)


class Foresight:
    """The outlooks of a world, made when they are first asked for, for jobs no longer than `horizon` (s)."""

    def __init__(self, past: Past, world: World, *, horizon: float, slack_max: float, library: Library) -> None:
        if not np.array_equal(past.spot, world.spot):
            raise ValueError(f"{world.name}: its past was seen at other prices; take the past of the priced world")
        self.past, self.world, self.library = past, world, library
        self.horizon, self.slack_max = horizon, slack_max
        self._made: OrderedDict[tuple[int, float], Outlook] = OrderedDict()
        self._ready: dict[float, set[int]] = {}

    def __call__(self, world: World, tick: int, changeover: float) -> Outlook:
        assert world is self.world
        key = (_epoch_tick(world.gap, tick), changeover)
        if key not in self._made:
            self._prepare(key[0], changeover)
            self._made[key] = foresee(
                self.past.readings[key[0]],
                on_demand=float(world.on_demand[tick].min()),
                changeover=changeover,
                horizon=self.horizon,
                slack_max=self.slack_max,
                library=self.library,
            )
            if len(self._made) > OUTLOOKS_KEPT:
                self._made.popitem(last=False)
        return self._made[key]

    def _prepare(self, tick: int, changeover: float) -> None:
        """Solve this epoch's tables with the next ones', which is cheaper; each reading knows its past only."""
        if tick in self._ready.get(changeover, ()):
            return
        soon = [at for at in self.past.readings if at >= tick][:TOGETHER]
        self._ready[changeover] = set(soon)
        self.library.prepare(
            [(self.past.readings[at], float(self.world.on_demand[at].min())) for at in soon],
            changeover=changeover,
            horizon=self.horizon,
            slack_max=self.slack_max,
        )


def _epoch_tick(gap: float, tick: int) -> int:
    """The first tick of the epoch that this tick is in."""
    return int(np.ceil(np.floor(tick * gap / EPOCH + 1e-9) * EPOCH / gap - 1e-9))
