"""How good the predictions of interruptions are, on recorded markets and on the one that the embedded cloud makes up.

    .venv/bin/python bench/calibration.py [--traces DIR] [--nodes N] [--days N]

In every pool so many nodes are held whenever it carries one, and once an hour each is predicted as the daemon does it
(core/hazard.py): the age law at what we saw of the pool, times what we learned there. Nobody looks ahead. A pool that
carries less than is held takes the excess, one blow however many. Printed: the Brier score, the same for whoever
always says the average of that market (which nobody knows beforehand), and the reliability table.

On recorded markets the age of a pool tells much. In the made-up one it tells next to nothing: its regions' droughts
fall on pools of any age, and leave them alone for an hour at least; learn nothing about real clouds from it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dsched.providers.local.generator import Weather, spot_tape
from dsched.scheduler.core import hazard
from dsched.scheduler.core.calibration import Calibration, Outcome, judge
from dsched.scheduler.core.market import Offer
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.snapshot import PoolMemory, Streak
from dsched.scheduler.core.units import HOUR, MINUTE, Instant, Millis, price
from dsched.scheduler.sim.trace import BadTrace, read_folder
from tests.support.stage import offer as made_up

LOOK: Final = Millis(10 * MINUTE)  # how often prices and capacity are seen
AHEAD: Final = Millis(HOUR)
POLICY: Final = Policy()
TEMPERS: Final = tuple(  # as the embedded cloud draws them for its pools, from the stormiest to the calmest
    Weather(calm=calm, dry=dry, depth=6, share=0.4, swing=0.05, price_every=9.0)
    for calm, dry in ((0.1, 0.08), (0.22, 0.05), (0.35, 0.03))
)


@dataclass(slots=True)
class Held:
    """One pool, and the nodes that we hold there."""

    offer: Offer
    streaks: dict[str, Streak] = field(default_factory=dict)
    memory: PoolMemory | None = None
    nodes: list[Instant] = field(default_factory=list)  # launched at
    open: list[tuple[Instant, float]] = field(default_factory=list)  # (due, chance) of each node, in its order
    outcomes: list[Outcome] = field(default_factory=list)

    def look(self, now: Instant, capacity: int, wanted: int) -> None:
        taken = len(self.nodes) - capacity
        if taken > 0:
            self._take(now, taken)
        self._see(now, up=capacity > 0)
        while len(self.nodes) < min(wanted, capacity):
            self.nodes.append(now)
            self.open.append((now, -1.0))
        for place, (due, chance) in enumerate(self.open):
            if due <= now:
                if chance >= 0:
                    self.outcomes.append(Outcome(chance, False))
                self.open[place] = Instant(now + AHEAD), self._predicted(now)

    def _predicted(self, now: Instant) -> float:
        streak = self.streaks.get(self.offer.pool.id)
        return hazard.chance(self.offer, self.memory, POLICY, streak=streak, now=now, hours=AHEAD / HOUR)

    def _take(self, now: Instant, count: int) -> None:
        """The newest go: it makes no difference to the pool's evidence."""
        for _ in range(count):
            launched, (_, chance) = self.nodes.pop(), self.open.pop()
            self.outcomes.append(Outcome(chance, True))
            self._remember(launched, now)
        known = self.memory or PoolMemory(pool=self.offer.pool.id)
        self.memory = replace(hazard.remembered(known, 1.0, 0.0, POLICY, now), watched=now)
        self._see(now, up=False)  # as the daemon takes it, though others may live on there

    def _remember(self, launched: Instant, now: Instant) -> None:
        known = self.memory or PoolMemory(pool=self.offer.pool.id)
        begun = Instant(max(launched, known.watched))
        due = hazard.expected(self.offer, self.streaks.get(self.offer.pool.id), begun, now)
        self.memory = replace(hazard.remembered(known, 0.0, due, POLICY, now), watched=now)

    def _see(self, now: Instant, *, up: bool) -> None:
        pool = self.offer.pool.id
        self.streaks[pool] = hazard.told(self.streaks, pool, up=up, now=now)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, help="folder of dsched.trace/1 files")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 4], help="held in each pool")
    parser.add_argument("--days", type=int, default=60, help="of the made-up market")
    given = parser.parse_args()
    try:
        markets = recorded(given.traces) if given.traces else {}
    except BadTrace as e:
        print(e, file=sys.stderr)
        return 2
    for title, pools in (markets | {"made up, as by the embedded cloud": _made_up(given.days)}).items():
        for nodes in given.nodes:
            _tell(f"{title}, {nodes} held", judge(play(pools, nodes)))
    return 0


def play(pools: Sequence[Sequence[int]], wanted: int) -> list[Outcome]:
    """What became of all predictions, over the capacities of each pool at every look."""
    found: list[Outcome] = []
    for number, capacities in enumerate(pools):
        offer = made_up(f"z{number}", 1.0)
        held = Held(replace(offer, hazard=None))  # nobody tells a rate
        for tick, capacity in enumerate(capacities):
            held.look(Instant(HOUR + tick * LOOK), capacity, wanted)
        found += held.outcomes
    return found


def recorded(folder: Path) -> dict[str, list[list[int]]]:
    """Capacities every LOOK of every zone, by source; a tick that nobody saw counts as down."""
    by_source: dict[str, list[list[int]]] = {}
    for zone in read_folder(folder):
        looks = range(int(zone.ticks * zone.gap * 1000 // LOOK))
        counts = [max(0, int(zone.counts[int(look * LOOK / 1000 // zone.gap)])) for look in looks]
        by_source.setdefault(zone.name.partition("/")[0], []).append(counts)
    return by_source


def _made_up(days: int) -> list[list[int]]:
    tapes = [
        spot_tape(seed, f"region{seed % 2}", f"pool{number}", temper, price(10.0))
        for seed in range(6)
        for number, temper in enumerate(TEMPERS)
    ]
    return [[tape.at(Millis(look * LOOK)).capacity for look in range(int(days * 24 * HOUR / LOOK))] for tape in tapes]


def _tell(title: str, found: Calibration) -> None:
    skill = "" if found.skill is None else f", skill {found.skill:+.1%}"
    score = "" if found.brier is None else f": Brier {found.brier:.4f}, always the average {found.base:.4f}{skill}"
    print(f"{title}, {found.count} predictions{score}")
    for row in found.rows:
        said = f"{row.low:.0%} to {row.high:.0%}"
        print(f"  {said:<12} {row.count:>7}  predicted {row.predicted:6.1%}  happened {row.happened:6.1%}")


if __name__ == "__main__":
    raise SystemExit(main())
