"""A set of zones on one time axis, as a job of a given gang sees it: up or down, prices, ages, egress.

Options are ordered: one on-demand option per region first, then one spot option per zone. Arrays are time-major and
read-only. A tick nobody observed is UNKNOWN; whoever must know the truth takes it for down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsched.scheduler.core.deadline.view import DOWN, ON_DEMAND, SPOT, UNKNOWN, UP, Bools, Floats, Ints
from dsched.scheduler.sim.egress import checkpoint_gb, per_gigabyte
from dsched.scheduler.sim.trace import UNSEEN, BadTrace, Zone

States = NDArray[np.int8]
OVERLAP_MIN: Final = 0.5  # share of the longest trace that a common window must cover


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """Z zones in R regions over T ticks."""

    name: str
    gap: float  # s
    zones: tuple[str, ...]
    regions: tuple[str, ...]
    state: States  # [T, Z] UP, DOWN, UNKNOWN
    spot: Floats  # [T, Z] $/h
    on_demand: Floats  # [T, R] $/h
    region: Ints  # [Z]
    egress: Floats  # [R, R] $ per move of the checkpoint
    first: tuple[int, ...]  # [Z] which tick of its own trace each zone has at tick 0
    begins: Bools  # [T] where another stretch of time begins, in which nothing of the one before is known
    pace: tuple[float, ...] = ()  # [O] speed of every option; empty: all of them 1

    @property
    def ticks(self) -> int:
        return len(self.state)

    @cached_property
    def up(self) -> Bools:
        """[T, Z] the truth."""
        up: Bools = self.state == UP
        return up

    @cached_property
    def price(self) -> Floats:
        """[T, O] $/h of every option."""
        return np.concatenate([self.on_demand, self.spot], axis=1)

    @cached_property
    def speed(self) -> Floats:
        """[O] reference seconds of work done in a second."""
        return np.array(self.pace) if self.pace else np.ones(self.price.shape[1])

    @cached_property
    def market(self) -> Ints:
        """[O]"""
        return np.array([ON_DEMAND] * len(self.regions) + [SPOT] * len(self.zones))

    @cached_property
    def place(self) -> Ints:
        """[O] the region of every option."""
        return np.concatenate([np.arange(len(self.regions)), self.region])

    @cached_property
    def age(self) -> Floats:
        """[T, Z] s that each zone has been in its state, as far as was seen before: 0 at the first tick."""
        changed = np.ones(self.state.shape, bool)
        changed[1:] = (self.state[1:] != self.state[:-1]) | self.begins[1:, None]
        since = np.maximum.accumulate(np.where(changed, np.arange(self.ticks)[:, None], 0), axis=0)
        age: Floats = (np.arange(self.ticks)[:, None] - since) * np.float64(self.gap)
        return age

    @cached_property
    def turned(self) -> Bools:
        """[T] where some zone is not in the state that it was in a tick before."""
        turned = self.begins.copy()
        turned[1:] |= (self.state[1:] != self.state[:-1]).any(axis=1)
        return turned

    @cached_property
    def life(self) -> Floats:
        """[T, Z] s that each zone will stay up, from this tick on; 0 where it is down. Nobody in the world knows it."""
        ends = np.ones(self.state.shape, bool)
        ends[:-1] = ~self.up[1:] | self.begins[1:, None]
        last = np.where(self.up & ends, np.arange(self.ticks)[:, None], self.ticks)
        until = np.minimum.accumulate(last[::-1], axis=0)[::-1]
        return np.where(self.up, (until - np.arange(self.ticks)[:, None] + 1) * self.gap, 0.0)


def world(zones: Sequence[Zone], *, gang: int = 1, name: str = "") -> World:
    """Zones of one gap over the ticks that all of them tell of. Raises BadTrace where they have too few in common."""
    gaps = {zone.gap for zone in zones}
    if len(gaps) != 1:
        raise BadTrace(f"{', '.join(zone.name for zone in zones)}: gaps of {sorted(gaps)} s; compare equal gaps only")
    gap = gaps.pop()
    windows = _windows(zones)
    regions = tuple(sorted({zone.region for zone in zones}))
    counts = np.stack([zone.counts[window] for zone, window in zip(zones, windows, strict=True)], axis=1)
    on_demand = [min(zone.on_demand for zone in zones if zone.region == region) for region in regions]
    ticks = len(counts)
    begins = np.zeros(ticks, bool)
    begins[0] = True
    return _frozen(
        World(
            name=name or zones[0].family,
            gap=gap,
            zones=tuple(zone.name for zone in zones),
            regions=regions,
            state=np.where(counts == UNSEEN, UNKNOWN, np.where(counts >= gang, UP, DOWN)).astype(np.int8),
            spot=np.stack([zone.prices[window] for zone, window in zip(zones, windows, strict=True)], axis=1),
            on_demand=np.tile(np.array(on_demand), (ticks, 1)),
            region=np.array([regions.index(zone.region) for zone in zones]),
            egress=per_gigabyte(regions) * checkpoint_gb(max(on_demand)),
            first=tuple(window.start for window in windows),
            begins=begins,
        )
    )


def normalised(world: World, ratio: float) -> World:
    """The same availability at a spot price of 1 $/h, an on-demand price of `ratio`, and no egress."""
    return _frozen(
        replace(
            world,
            spot=np.ones_like(world.spot),
            on_demand=np.full_like(world.on_demand, ratio),
            egress=np.zeros_like(world.egress),
        )
    )


def in_a_row(worlds: Sequence[World]) -> tuple[World, Ints]:
    """Worlds of equal shape one after the other, so that one batch can hold jobs of all; and their first ticks [W].

    A job must end within its world. Regions and zones keep the names of the first.
    """
    first = worlds[0]
    offsets = np.cumsum([0] + [one.ticks for one in worlds[:-1]])
    whole = replace(
        first,
        state=np.concatenate([one.state for one in worlds]),
        spot=np.concatenate([one.spot for one in worlds]),
        on_demand=np.concatenate([one.on_demand for one in worlds]),
        begins=np.concatenate([one.begins for one in worlds]),
    )
    return _frozen(whole), offsets


def together_in_time(zones: Sequence[Zone]) -> list[list[Zone]]:
    """The zones in groups that `world` takes: each zone is with the first group whose time it shares well enough."""
    groups: list[list[Zone]] = []
    for zone in zones:
        for group in groups:
            begin, end, longest = _common([*group, zone])
            if end - begin >= OVERLAP_MIN * longest:
                group.append(zone)
                break
        else:
            groups.append([zone])
    return groups


def _windows(zones: Sequence[Zone]) -> list[slice]:
    """The ticks of every zone in the window common to all."""
    begin, end, longest = _common(zones)
    if end - begin < OVERLAP_MIN * longest:
        raise BadTrace(
            f"{', '.join(zone.name for zone in zones)}: only {max(0, end - begin)} of {longest} ticks in common; "
            "their starts lie too far apart: correct `start`, or keep them in different folders"
        )
    return [slice(begin - offset, end - offset) for offset in _offsets(zones)]


def _common(zones: Sequence[Zone]) -> tuple[int, int, int]:
    """First and last tick that all tell of, on the clock of the earliest; and the ticks of the longest."""
    offsets = _offsets(zones)
    end = min(offset + zone.ticks for offset, zone in zip(offsets, zones, strict=True))
    return max(offsets), end, max(zone.ticks for zone in zones)


def _offsets(zones: Sequence[Zone]) -> list[int]:
    """Ticks from the earliest start to each. Where one does not tell its start, all are taken to begin together."""
    starts = [zone.start for zone in zones]
    if any(map(math.isnan, starts)):
        return [0] * len(zones)
    return [round((start - min(starts)) / zones[0].gap) for start in starts]


def _frozen(world: World) -> World:
    for array in (world.state, world.spot, world.on_demand, world.region, world.egress, world.begins):
        array.flags.writeable = False
    return world
