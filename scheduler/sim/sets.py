"""Which jobs a bench plays over a folder of traces: sets of zones by rule, and starts drawn from a seed.

The rule knows no folder: zones of one family (what they sell) and gap belong together. Single sets hold a family's
zones one by one at normalised prices, multi sets hold them at their own prices: all of it, and parts that look like
what one user may have (a region, a continent, one zone per region). Traces of several machines are read at two gangs,
all that was ever seen together and half of it. Zones that share too little time with the others stand in a set of their
own time; a trace too short for its family's jobs, and a zone without prices among others, are left out by name.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from dsched.scheduler.core.deadline.hazard import HOUR
from dsched.scheduler.core.deadline.view import Floats, Ints
from dsched.scheduler.sim.egress import continent
from dsched.scheduler.sim.trace import Zone
from dsched.scheduler.sim.world import World, normalised, together_in_time, world

SLACKS: Final = (1.1, 1.25, 1.5, 2.0, 3.0)  # deadline over work
CHANGEOVERS: Final = (180.0, 360.0, 720.0)  # s
RATIOS: Final = (1.75, 3.14, 5.6)  # on-demand over spot: GCP H100 of 2026, AWS V100 of 2022, GCP H100 of 2025
OWN: Final = 0.0  # the price ratio of a set that keeps its own prices
HISTORY: Final = 72 * 3600.0  # s that a start should have behind it
DAY: Final = 86_400.0
ALIKE: Final = 0.5  # of the longest trace of its family that a zone must last to play the same jobs
LONG_DAYS: Final = 18  # traces from here on take the long jobs
LONG, SHORT = 48 * 3600.0, 24 * 3600.0  # s of work
DULL: Final = 0.01  # a zone up less than this, or down less than this, leaves nothing to decide


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Set:
    """Worlds whose jobs share a row of the table: one for each zone of a single set, one alone for a multi set."""

    name: str
    single: bool
    gang: int
    work: float  # s of every job
    worlds: tuple[World, ...]
    ratios: tuple[float, ...]

    def priced(self, ratio: float) -> tuple[World, ...]:
        return self.worlds if ratio == OWN else tuple(normalised(one, ratio) for one in self.worlds)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draw:
    """The jobs of one set at one slack."""

    slack: float
    world: Ints  # [J] index into the set's worlds
    start: Ints  # [J] tick
    ticks: int  # until the deadline


def sets(zones: Sequence[Zone]) -> tuple[list[Set], list[str]]:
    """All sets of a folder, and what was left out and why."""
    found: list[Set] = []
    left_out: list[str] = []
    for family, members in _groups(zones, lambda zone: f"{zone.name.partition('/')[0]}|{zone.gap}"):
        kept, short = _long_enough(members)
        left_out += short
        for gang in _gangs(kept):
            made, dull = _single(f"1 zone: {family.partition('|')[0]}{_times(gang)}", kept, gang)
            found += made
            left_out += dull
    for family, members in _groups(zones, lambda zone: f"{zone.family}|{zone.gap}"):
        title = family.partition("|")[0]
        priced = [zone for zone in members if zone.priced]
        if len(members) > 1:
            left_out += [f"{zone.name} has no price: it plays alone only" for zone in members if not zone.priced]
        for together in together_in_time(priced):
            if len(together) > 1:
                found += _multi(title, together)
            elif len(priced) > 1:
                left_out.append(f"{together[0].name} shares too little time with the other zones of {title}")
    return _named_apart(found), left_out


def _multi(title: str, zones: Sequence[Zone]) -> Iterable[Set]:
    gangs = _gangs(zones)
    for gang in gangs:
        for part, some in _parts(zones, whole_first=gang == max(gangs)):
            name = f"{len(some)} zones: {title}{_times(gang)}{part}"
            one = world(some, gang=gang, name=name)
            yield Set(name=name, single=False, gang=gang, work=_work([one]), worlds=(one,), ratios=(OWN,))


def _named_apart(found: Sequence[Set]) -> list[Set]:
    """The same sets; what two would be called is told apart by the gap and, where that is the same, by a number."""
    for suffix in (lambda one, _: f" every {one.worlds[0].gap:g} s", lambda _, place: f" ({place + 1})"):
        by_name: dict[str, list[Set]] = {}
        for one in found:
            by_name.setdefault(one.name, []).append(one)
        found = [
            one
            if len(by_name[one.name]) == 1
            else replace(one, name=one.name + suffix(one, by_name[one.name].index(one)))
            for one in found
        ]
    return list(found)


def draw(found: Set, slack: float, count: int, seed: int) -> Draw | None:
    """`count` starts, evenly over the worlds and at random in each; None where a world is too short for one."""
    ticks = deadline_ticks(found, slack)
    latest = np.array([one.ticks - ticks for one in found.worlds])
    if latest.min() < 0:
        return None
    luck = np.random.default_rng([seed, zlib.crc32(found.name.encode()), round(slack * 1000)])
    index = np.arange(count) % len(found.worlds)
    earliest = np.minimum(int(HISTORY / found.worlds[0].gap), latest // 2)
    start = luck.integers(earliest[index], latest[index], endpoint=True)
    return Draw(slack=slack, world=index, start=start, ticks=ticks)


def deadline_ticks(found: Set, slack: float) -> int:
    return int(found.work * slack / found.worlds[0].gap + 1e-9)


def can_end(found: Set, slack: float, delay: float) -> bool:
    """Whether sure capacity, launched at once, ends in time after `delay` (s): else no policy is to blame."""
    return found.work + delay <= deadline_ticks(found, slack) * found.worlds[0].gap


def _groups(zones: Sequence[Zone], key: object) -> Iterable[tuple[str, list[Zone]]]:
    assert callable(key)
    names = sorted({key(zone) for zone in zones})
    return [(name, [zone for zone in zones if key(zone) == name]) for name in names]


def _gangs(zones: Sequence[Zone]) -> tuple[int, ...]:
    """All that was ever seen together, and half of it where that is another question."""
    most = max(1, *(int(zone.counts.max()) for zone in zones))
    half = most // 2
    if half and any(((zone.counts >= half) != (zone.counts >= most)).any() for zone in zones):
        return half, most
    return (most,)


def _times(gang: int) -> str:
    return "" if gang == 1 else f" x{gang}"


def _long_enough(zones: Sequence[Zone]) -> tuple[list[Zone], list[str]]:
    longest = max(zone.ticks for zone in zones)
    kept = [zone for zone in zones if zone.ticks >= ALIKE * longest]
    told = [
        f"{zone.name} alone: {zone.ticks} ticks, where others of its family have {longest}"
        for zone in zones
        if zone.ticks < ALIKE * longest
    ]
    return kept, told


def _single(name: str, zones: Sequence[Zone], gang: int) -> tuple[list[Set], list[str]]:
    worlds = [world([zone], gang=gang, name=zone.name) for zone in zones]
    dull = [one for one in worlds if not DULL <= one.up.mean() <= 1 - DULL]
    lively = tuple(one for one in worlds if one not in dull)
    told = [f"{name}: {one.name}, up {one.up.mean():.0%} of the time, leaves nothing to decide" for one in dull]
    if not lively:
        return [], told
    return [Set(name=name, single=True, gang=gang, work=_work(lively), worlds=lively, ratios=RATIOS)], told


def _parts(zones: Sequence[Zone], *, whole_first: bool) -> list[tuple[str, list[Zone]]]:
    """(what it is called, its zones): the family, and for the larger gang its biggest continent and region, for the
    smaller one a zone of each region; of two equal parts the first, none of a single zone."""
    by_region = dict(_groups(zones, lambda zone: zone.region))
    by_continent = dict(_groups(zones, lambda zone: continent(zone.region)))
    parts = [("", list(zones))]
    if whole_first:
        for kind in (by_continent, by_region):
            name, some = max(kind.items(), key=lambda item: len(item[1]))
            parts.append((f" in {name}", some))
    else:
        parts.append((" one per region", [some[0] for some in by_region.values()]))
    seen: list[tuple[str, list[Zone]]] = []
    for name, some in parts:
        if len(some) > 1 and not any(some == other for _, other in seen):
            seen.append((name, some))
    return seen


def _work(worlds: Sequence[World]) -> float:
    """Long jobs on long traces; where even the short ones do not fit thrice, a quarter of the trace in whole hours or,
    if that is none, in whole ticks."""
    gap = worlds[0].gap
    span = min(one.ticks for one in worlds) * gap
    if span >= LONG_DAYS * DAY:
        return LONG
    if span >= 4 * SHORT:
        return SHORT
    return span / 4 // HOUR * HOUR or max(1.0, span / 4 // gap) * gap


def starts_in_seconds(drawn: Draw, gap: float) -> Floats:
    """[J] s after the begin of the trace."""
    seconds: Floats = drawn.start * np.float64(gap)
    return seconds
