"""What jobs cost to their end by the choice rules of SkyPilot and dstack, beside ours, on the same offers.

    .venv/bin/python bench/rivals.py [--seed 1] [--starts 6]

The offers are our catalog's shapes at list price and a made-up spot market of the same shapes (the embedded cloud's
generator, so the same weather for all). The rules, as their documentation states them:

  skypilot   managed job, any_of spot and on-demand: the cheapest by the hour of what can be had; after an interruption
             the same among other regions first (EAGER_NEXT_REGION); all GPUs are taken to be equally fast, no deadline
  sky spot   managed job, use_spot: true: the same on spot only; it waits when there is none
  dstack     spot_policy: auto, retry on interruption: the cheapest by the hour, again and again; no deadline
  dsched     the slack policy within its guard, on the accelerator whose spot price per work done was least so far

Nobody is charged for being told late: all notice interruptions and prices at the next tick and need the same
changeover, which favours the rivals (SkyPilot polls every 15 s and tears down, dstack waits 2 minutes).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from dsched.providers import catalog
from dsched.providers.local.generator import Weather, spot_tape
from dsched.scheduler.core.deadline.cheapest import HOUR, least, spots, sure, unvalued
from dsched.scheduler.core.deadline.guard import guarded
from dsched.scheduler.core.deadline.outlook import Library
from dsched.scheduler.core.deadline.patience import Patient
from dsched.scheduler.core.deadline.policies import named
from dsched.scheduler.core.deadline.view import DOWN, UP, Batch, Choices, DeadlinePolicy
from dsched.scheduler.core.units import MICRO, Millis
from dsched.scheduler.sim.egress import per_gigabyte
from dsched.scheduler.sim.foresight import Foresight, past
from dsched.scheduler.sim.replay import Jobs, Outcomes, replay
from dsched.scheduler.sim.world import World

GAP: Final = 300.0  # s
DAYS: Final = 35
HISTORY: Final = 5  # days before the first start
CHANGEOVER: Final = 360.0  # s
PATIENCE: Final = 8.0  # how many times its own work a rival may take before it is stopped
ZONES: Final = 2  # per region
WEATHER: Final = Weather(calm=0.6, dry=0.3, depth=4, share=0.45, swing=0.05, price_every=9.0)
SHARES: Final = {"aws": 0.5, "gcp": 0.42}  # spot over on-demand, about what 2026 lists for 8 x H100


@dataclass(frozen=True, slots=True)
class Case:
    """A job as somebody would submit it."""

    name: str
    shapes: tuple[str, ...]
    nodes: int
    hours: float  # on the fastest of the shapes
    deadline: float  # hours
    checkpoint: float  # GB


CASES: Final = (  # nodes, hours, deadline, checkpoint
    Case("pretrain a MoE, a day to spare", ("p5.48xlarge", "a3-highgpu-8g"), 1, 48, 72, 50),
    Case("the same, hardly any time", ("p5.48xlarge", "a3-highgpu-8g"), 1, 48, 53, 50),
    Case("four nodes, tight", ("p5.48xlarge",), 4, 24, 30, 200),
    Case("fine-tune 8B on A100-80", ("p4de.24xlarge", "a2-ultragpu-8g"), 1, 24, 48, 20),
    Case("A100-40 or H100, whichever", ("p4d.24xlarge", "p5.48xlarge"), 1, 24, 40, 20),
    Case("LoRA on one small GPU", ("g5.xlarge", "g6.xlarge", "g6e.xlarge"), 1, 12, 20, 2),
    Case("batch inference, loose", ("g6.xlarge", "g2-standard-4"), 1, 20, 60, 1),
    Case("one A100-80, four days", ("a2-ultragpu-1g",), 1, 36, 100, 10),
)


@dataclass(frozen=True, slots=True)
class Cheapest:
    """The cheapest by the hour of what can be had, kept until it is gone."""

    name: str
    next_region: bool = False
    spot_only: bool = False

    def choose(self, batch: Batch) -> Choices:
        there = (spots(batch) & (batch.up == UP)) | (sure(batch) & (not self.spot_only))
        price = np.where(there, batch.price, np.inf)
        if self.next_region:
            blocked = (batch.region == batch.lost[:, None]) & there
            price = price + np.where(blocked & ~blocked.all(axis=1, keepdims=True), 1e6, 0.0)
        return unvalued(batch, np.where(batch.running >= 0, batch.running, least(price)))


RIVALS: Final[tuple[DeadlinePolicy, ...]] = (
    Cheapest("skypilot", next_region=True),
    Cheapest("sky spot", next_region=True, spot_only=True),
    Cheapest("dstack"),
)


def market(case: Case, seed: int) -> tuple[World, tuple[str, ...]]:
    """The world of a case, and the shape of every option."""
    listings = catalog.load().listings
    fastest = max(_flops(shape) for shape in case.shapes)
    fixed = [(shape, region) for shape in case.shapes for region in sorted(listings[shape].on_demand)]
    pools = [(shape, region, zone) for shape, region in fixed for zone in range(ZONES)]
    ticks = int(DAYS * 24 * HOUR / GAP)
    state, spot = np.empty((ticks, len(pools)), np.int8), np.empty((ticks, len(pools)))
    for column, (shape, region, zone) in enumerate(pools):
        listing = listings[shape]
        weather = replace(WEATHER, share=SHARES[listing.provider], calm=WEATHER.calm * (1 + zone))
        tape = spot_tape(seed, region, f"{region}-{zone}/{shape}", weather, listing.on_demand[region])
        steps = [tape.at(Millis(int(tick * GAP * 1000))) for tick in range(ticks)]
        state[:, column] = [UP if step.capacity >= min(case.nodes, weather.depth) else DOWN for step in steps]
        spot[:, column] = [step.price / MICRO * case.nodes for step in steps]
    begins = np.zeros(ticks, bool)
    begins[0] = True
    world = World(
        name=case.name,
        gap=GAP,
        zones=tuple(f"{region}-{zone}/{shape}" for shape, region, zone in pools),
        regions=tuple(f"{region}/{shape}" for shape, region in fixed),
        state=state,
        spot=spot,
        on_demand=np.tile([listings[s].on_demand[r] / MICRO * case.nodes for s, r in fixed], (ticks, 1)),
        region=np.array([fixed.index((shape, region)) for shape, region, _ in pools]),
        egress=per_gigabyte([region for _, region in fixed]) * case.checkpoint,
        first=(0,) * len(pools),
        begins=begins,
        pace=tuple(_flops(shape) / fastest for shape, *_ in (*fixed, *pools)),
    )
    return world, tuple(shape for shape, *_ in (*fixed, *pools))


def _flops(shape: str) -> float:
    """BF16 peak of a node: what the same job does in an hour there, to a first approximation."""
    listing = catalog.load().listings[shape]
    accelerator = listing.shape.accelerator
    assert accelerator is not None
    return accelerator.bf16_tflops * listing.shape.gpus


def ours(case: Case, world: World, shapes: Sequence[str], jobs: Jobs) -> Outcomes:
    """The slack policy on one kind of accelerator: that which did an hour's work for least, before the first start."""
    before = slice(0, int(jobs.start.min()))
    sure_count = len(world.regions)
    kinds = {shape: _flops(shape) for shape in case.shapes}

    def cost(shape: str) -> float:
        columns = [index for index, of in enumerate(shapes[sure_count:]) if _flops(of) == kinds[shape]]
        up, price = world.up[before][:, columns], world.spot[before][:, columns]
        return float(price[up].mean() / kinds[shape]) if up.any() else np.inf

    best = kinds[min(case.shapes, key=cost)]
    fixed = [index for index in range(sure_count) if _flops(shapes[index]) == best]
    zones = [index for index, of in enumerate(shapes[sure_count:]) if _flops(of) == best]
    pace = best / max(kinds.values())
    part = replace(
        world,
        zones=tuple(world.zones[z] for z in zones),
        regions=tuple(world.regions[r] for r in fixed),
        state=world.state[:, zones],
        spot=world.spot[:, zones],
        on_demand=world.on_demand[:, fixed],
        region=np.array([fixed.index(world.region[z]) for z in zones]),
        egress=world.egress[np.ix_(fixed, fixed)],
        first=(0,) * len(zones),
        pace=(),
    )
    work = replace(jobs, work=jobs.work / pace)
    span = float(jobs.ticks.max() * GAP)
    seen = past(part)
    ahead = Foresight(seen, part, horizon=span, slack_max=span - float(work.work.max()), library=Library())
    return replay(part, work, guarded(Patient(named("slack"))), foresee=ahead, hazard=seen.factor)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of the market and of the starts")
    parser.add_argument("--starts", type=int, default=6, help="per job")
    given = parser.parse_args()
    names = [*(rival.name for rival in RIVALS), "dsched"]
    print(f"mean $ to the end (hours it took; how many of {given.starts} were late)")
    print(f"{'job':<32} {'work':>5} {'due':>5}  " + "".join(f"{name:>26}" for name in names))
    total = dict.fromkeys(names, 0.0)
    for case in CASES:
        world, shapes = market(case, given.seed)
        luck = np.random.default_rng(given.seed)
        longest = int(case.hours * PATIENCE * HOUR / GAP)
        starts = luck.integers(int(HISTORY * 24 * HOUR / GAP), world.ticks - longest, given.starts)
        jobs = Jobs(
            start=starts,
            ticks=np.full(given.starts, longest),
            work=np.full(given.starts, case.hours * HOUR),
            changeover=np.full(given.starts, CHANGEOVER),
        )
        due = replace(jobs, ticks=np.full(given.starts, int(case.deadline * HOUR / GAP)))
        found = {rival.name: replay(world, jobs, rival) for rival in RIVALS}
        found["dsched"] = ours(case, world, shapes, due)
        cells = []
        for name, got in found.items():
            late = int((got.finish > case.deadline * HOUR + 1.0).sum())
            total[name] += float(got.cost.mean())
            told = f"{got.cost.mean():,.2f} ({got.finish.mean() / HOUR:.1f} h; {late})"
            cells.append(f"{told:>26}")
        print(f"{case.name:<32} {case.hours:>4g}h {case.deadline:>4g}h  " + "".join(cells), flush=True)
    print(f"{'all':<45}  " + "".join(f"{total[name]:>26,.2f}" for name in names))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
