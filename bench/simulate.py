"""A month of a busy team in simulation: 1,000 jobs x 30 days through the production core and store, on one core.

    .venv/bin/python bench/simulate.py [--traces DIR] [--jobs N] [--days D] [--policy NAME] [--quick]

Without traces the market is made up. Besides the time it took: what must hold of every decision (a broken invariant
ends the run), and whether prices that swing make jobs swing.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core is what is promised
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import structlog

from bench.figure import Figure, hand_over, table
from dsched.providers import catalog
from dsched.providers.local.market import generated, replayed
from dsched.scheduler.core.hardware import Shape
from dsched.scheduler.core.market import Market, Pool
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.units import HOUR, MINUTE, MicroUsdPerHour, Millis, price
from dsched.scheduler.sim.crowd import crowd
from dsched.scheduler.sim.drive import DAY, POLICY, Setting, Simulation
from dsched.scheduler.sim.market import Course
from dsched.scheduler.sim.tally import Row, Tally, tally

GOAL_S: Final = 600.0
SWING: Final = Millis(40 * MINUTE)  # between two changes of which zone is the cheap one: longer than the cool-down
GPUS: Final = "H100"


@dataclass(frozen=True, slots=True)
class Lot:
    """One pool of the swinging market, its own tape."""

    pool: Pool
    shape: Shape
    on_demand: MicroUsdPerHour
    notice: Millis = Millis(120_000)

    @property
    def tape(self) -> Lot:
        return self

    def next(self, age: Millis) -> Millis:
        return Millis((age // SWING + 1) * SWING)


class Swinging:
    """Two zones that take turns at being a third cheaper, with capacity for everybody and no interruptions."""

    note = "two zones whose prices swing"

    def __init__(self) -> None:
        shape = catalog.load().shape("a3-highgpu-8g")
        assert shape is not None, "the catalog has it"
        lots = [
            Lot(Pool("swing", "r", zone, shape.name, Market.SPOT), shape, price("88.49")) for zone in ("r-a", "r-b")
        ]
        self.listings = {lot.pool: lot for lot in lots}

    def capacity(self, pool: Pool, age: Millis) -> int:
        return 1_000

    def price(self, pool: Pool, age: Millis) -> MicroUsdPerHour:
        cheap = (age // SWING) % 2 == (pool.zone == "r-a")
        return price("20") if cheap else price("30")

    def hazard(self, pool: Pool, age: Millis) -> float:
        return 0.0


def simulated(course: Course, jobs: int, days: float, seed: int, policy: Policy) -> Tally:
    setting = Setting(seed=seed, lasting=Millis(round(days * DAY)), policy=policy)
    run = Simulation(setting, course, crowd(seed, jobs, setting.start, setting.lasting, (GPUS,)))
    run.run()
    return tally(run)


def main() -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    given = arguments().parse_args()
    jobs, days = (60, 4.0) if given.quick else (given.jobs, given.days)
    course = generated(given.seed) if given.traces is None else replayed(given.traces, given.only)
    policy = replace(POLICY, deadline_policy=given.policy) if given.policy else POLICY
    month = simulated(course, jobs, days, given.seed, policy)
    zones = len({pool.zone for pool in course.listings})
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    name = f"{jobs:,} jobs x {days:.0f} days x {zones} zones ({course.note}), policy {month.policy}"
    figures = [
        Figure(name=name, value=month.seconds, unit="cpu s", goal=GOAL_S),
        Figure(name="  events of the core and its store, per second", value=month.decisions / month.seconds, unit="/s"),
        Figure(name="  broken invariants (one runner, gangs whole, quota, orphans)", value=0, unit="", goal=1,
               note=f"in {month.judged:,} checks"),
        Figure(name="  deadlines missed", value=month.missed, unit="", note=f"of {month.met + month.missed}"),
        Figure(name="  decisions that do not name every offer", value=month.partial, unit="", goal=1,
               note=f"of {month.explained + month.partial:,}"),
        Figure(name="  voluntary moves per job and day", value=moves(month.rows), unit=""),
        Figure(name="  peak memory", value=memory, unit="MiB"),
    ]  # fmt: skip
    figures += swings(given.seed, policy)
    print(table(figures))
    paid, listed = month.paid / HOUR / 1e6, month.on_demand / HOUR / 1e6
    print(f"decisions {month.digest}; paid {paid:,.0f} dollars, {listed:,.0f} on demand")
    hand_over(figures)
    return 0


def swings(seed: int, policy: Policy) -> list[Figure]:
    """The same jobs in a market that swings, free to move and not."""
    free = simulated(Swinging(), 20, 4.0, seed, policy)
    stuck = replace(policy, moves_free=0, moves_each=Millis(1_000 * DAY), move_margin=10.0)
    staying = simulated(Swinging(), 20, 4.0, seed, stuck)
    swung = [row.moves / max(1.0, lasting(row) / SWING) for row in free.rows]
    return [
        Figure(name="prices that swing: moves per swing of the prices, the most of a job", value=max(swung), unit="",
               goal=0.5),
        Figure(name="  cost, of what staying costs", value=free.paid / staying.paid, unit="",
               goal=1.0 + policy.move_margin, note=f"{sum(row.moves for row in free.rows)} moves"),
    ]  # fmt: skip


def moves(rows: tuple[Row, ...]) -> float:
    """Moves that no interruption forced, per job and day of its running."""
    days = sum(lasting(row) for row in rows) / DAY
    return sum(max(0, row.moves - row.interruptions) for row in rows) / max(days, 1e-9)


def lasting(row: Row) -> int:
    return 0 if row.started is None or row.ended is None else row.ended - row.started


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--traces", type=Path, metavar="DIR", help="replay these instead of a made-up market")
    parser.add_argument("--only", default="h100*", metavar="GLOB", help="of these files (default h100*)")
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--policy", default="", metavar="NAME", help="for deadlines (default: the daemon's)")
    parser.add_argument("--quick", action="store_true", help="60 jobs in 4 days")
    return parser


if __name__ == "__main__":
    sys.exit(main())
