"""Sightings as traces: how many machines could be had at each tick, null where nobody looked.

The schema is `dsched.trace/1`, which the embedded cloud replays and the benches read: so any past week of a daemon is
a benchmark. A trace holds one spot pool; the on-demand price of the same shape stands beside it.

What counts as known (n machines, ours among them):
  the provider tells what is free      free + ours, from one answer until two ticks after the last
  a launch of k was refused            less than k more: ours + k - 1, in that tick
  a launch of k was granted            ours, in that tick
  machines of ours live there          ours, while the provider lists them
  one of ours was interrupted          what is left of ours, in that tick
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from dsched.scheduler.core.sighting import Sight, Sighting, spot
from dsched.scheduler.core.units import MICRO, MINUTE, SECOND, Instant, MicroUsdPerHour, Millis

SCHEMA: Final = "dsched.trace/1"
GAP: Final = Millis(10 * MINUTE)  # between two ticks: what the published traces use, and launch tries cost money
HOLDS: Final = 2  # ticks of GAP or more for which an answer stays true: one missed refresh is forgiven
TICKS_MAX: Final = 200_000  # of one trace: nearly four years at ten minutes; more is a broken clock


@dataclass(slots=True)
class _Tape:
    """One pool as it is told, and what was written of it."""

    region: str = ""
    provider: str = ""
    price: MicroUsdPerHour | None = None
    on_demand: MicroUsdPerHour | None = None
    free: int | None = None
    alive: int = 0
    told: Instant = Instant(0)  # when price and free were confirmed last
    holds: Instant = Instant(0)  # so long the price held, where a cloud remembered it
    met: int | None = None  # evidence of this very tick
    first: int = 0  # tick of the first count
    counts: list[int | None] = field(default_factory=list)
    prices: list[float | None] = field(default_factory=list)

    def hear(self, seen: Sighting) -> None:
        match seen.kind:
            case Sight.QUOTE:
                self.region, self.provider = seen.region, seen.provider
                self.price, self.free, self.told, self.holds = seen.price, seen.free, seen.at, seen.until
                self.on_demand = seen.on_demand if seen.on_demand is not None else self.on_demand
            case Sight.SOLD:
                self.alive += seen.count
                self.free = None if self.free is None else max(0, self.free - seen.count)  # until it is told anew
                self.met = self.alive + (self.free or 0)
            case Sight.REFUSED:
                self.met = self.alive + seen.count - 1
            case Sight.TAKEN:
                self.alive = max(0, self.alive - seen.count)
                self.met = self.alive
            case Sight.WATCH | Sight.OUTCOME:
                pass  # of no one pool

    def write(self, now: int, gap: int) -> None:
        """One tick, which ends at `now`."""
        fresh = now - self.told <= HOLDS * max(gap, GAP)
        known: int | None = self.alive or None
        if fresh and self.free is not None:
            known = self.free + self.alive
        self.counts.append(known if self.met is None else self.met)
        fresh = fresh or now - gap < self.holds
        self.prices.append(self.price / MICRO if fresh and self.price is not None else None)
        self.met = None


def traces(
    sightings: Iterable[Sighting], *, gap: Millis = GAP, begin: Instant | None = None, end: Instant | None = None
) -> list[dict[str, Any]]:
    """One trace per spot pool, in the order of their names. `start` is market milliseconds; the shell writes the date.

    Sightings may overlap a little in time (several writers); what is older than the tick being written counts for it.
    Raises ValueError for a clock that jumped by years.
    """
    tapes: dict[str, _Tape] = {}
    tick, start = 0, begin
    for seen in sightings:
        if end is not None and seen.at >= end:
            break
        if start is None:
            start = Instant(seen.at - seen.at % gap)
        due = (seen.at - start) // gap
        if due > TICKS_MAX:
            raise ValueError(f"the journal spans {due} ticks of {gap // SECOND} s: its clock jumped; choose --since")
        tick = _write_until(tapes, tick, due, start, gap)
        _hear(tapes, seen, tick, before=due < 0)
    if start is not None:
        last = tick + 1 if end is None else min(TICKS_MAX, -(-(end - start) // gap))
        _write_until(tapes, tick, last, start, gap)
    return [_trace(pool, tapes[pool], start or Instant(0), gap) for pool in sorted(tapes) if tapes[pool].counts]


def _write_until(tapes: dict[str, _Tape], tick: int, due: int, start: int, gap: int) -> int:
    """Close the ticks before `due`. What was seen before the beginning (a negative tick) only sets the scene."""
    for at in range(tick, due):
        for tape in tapes.values():
            tape.write(start + (at + 1) * gap, gap)
    return max(tick, due)


def _hear(tapes: dict[str, _Tape], seen: Sighting, tick: int, *, before: bool) -> None:
    """`before` the beginning: what holds on is known, what was tried then is no evidence of a tick."""
    if seen.kind is Sight.WATCH:
        for pool, tape in tapes.items():
            if tape.provider == seen.provider:
                tape.told, tape.alive = seen.at, seen.alive.get(pool, 0)
    elif seen.kind is not Sight.OUTCOME and spot(seen.pool):
        tape = tapes.setdefault(seen.pool, _Tape(first=tick))
        tape.hear(seen)
        if before:
            tape.met = None


def _trace(pool: str, tape: _Tape, start: int, gap: int) -> dict[str, Any]:
    provider, zone, shape, _ = pool.split("/")
    return {
        "schema": SCHEMA,
        "name": f"journal/{provider}_{zone}_{shape}",
        "cloud": _cloud(provider, tape.region),
        "region": tape.region,
        "zone": zone,
        "shape": shape,
        "start": start + tape.first * gap,
        "gap_seconds": gap / SECOND,
        "max_count": max((count for count in tape.counts if count is not None), default=0),
        "counts_rle": [[count, len(list(run))] for count, run in groupby(tape.counts)],
        "spot_price_series": tape.prices,
        "spot_price_stride": 1,
        "od_price": tape.on_demand / MICRO if tape.on_demand is not None else None,
        "source": "market journal of a dsched daemon; null: nobody looked",
    }


def _cloud(provider: str, region: str) -> str:
    """The embedded cloud sells under the names of others: "us-east-1" is how AWS writes, "us-east1" how GCP does."""
    if provider != "local":
        return provider
    return "aws" if region.rpartition("-")[2].isdigit() else "gcp"
