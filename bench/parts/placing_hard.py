"""The same jobs in a less kind world: what refuses, hides or drags must cost money, never a deadline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np

from dsched.scheduler.core.deadline.guard import guarded
from dsched.scheduler.core.deadline.outlook import Library
from dsched.scheduler.core.deadline.patience import Patient
from dsched.scheduler.core.deadline.policies import named
from dsched.scheduler.core.deadline.view import UNKNOWN
from dsched.scheduler.sim.foresight import Foresight, past
from dsched.scheduler.sim.optimum import optimum
from dsched.scheduler.sim.replay import Jobs, Mishaps, replay
from dsched.scheduler.sim.sets import CHANGEOVERS, SLACKS, Set, can_end, draw
from dsched.scheduler.sim.world import World

KINDS: Final[Mapping[str, Mishaps]] = MappingProxyType(
    {
        "one launch in five fails, seen after 1 to 3 min": Mishaps(refusal=0.2),
        "and on-demand too, twice in a row at most": Mishaps(refusal=0.2, sure_refusal=0.2),
        "zones seen by a probe every 10 min": Mishaps(probe=600.0),
        "zones seen by a probe every 2 h": Mishaps(probe=7200.0),
        "changeover drawn from +-50 %": Mishaps(spread=0.5),
    }
)
PER_SLACK: Final = 16  # jobs: every one is asked at every tick here
POLICIES: Final = ("up", "slack")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardship:
    set: str
    kind: str
    policy: str
    jobs: int
    misses: int
    ratio: float  # cost over the optimum of the kind world


def hardships(one: Set, kind: str, *, seed: int) -> list[Hardship]:
    """Both policies on one world of a set, under one kind of mishap."""
    world, mishaps = one.worlds[0], replace(KINDS[kind], seed=seed)
    if one.single:
        world = one.priced(one.ratios[len(one.ratios) // 2])[0]
    alone = replace(one, worlds=one.worlds[:1])
    worst = CHANGEOVERS[1] * (1.0 + mishaps.spread) + mishaps.retry  # s until sure capacity makes progress
    can = [slack for slack in SLACKS if can_end(alone, slack, worst)]
    draws = [drawn for slack in can if (drawn := draw(alone, slack, PER_SLACK, seed))]
    if not draws:
        return []
    count = PER_SLACK * len(draws)
    jobs = Jobs(
        start=np.concatenate([drawn.start for drawn in draws]),
        ticks=np.repeat([drawn.ticks for drawn in draws], PER_SLACK),
        work=np.full(count, one.work),
        changeover=np.full(count, CHANGEOVERS[1]),
    )
    least = optimum(world, jobs)
    seen = past(_as_seen(world, mishaps))
    longest = float(jobs.ticks.max() * world.gap)
    found = []
    for name in POLICIES:
        policy = guarded(
            Patient(named(name)), margin=mishaps.fail[1], stretch=1.0 + mishaps.spread, retry=mishaps.retry
        )
        ahead = Foresight(seen, world, horizon=longest, slack_max=longest - one.work, library=Library())
        got = replay(
            world, jobs, policy, foresee=ahead if name == "slack" else None, hazard=seen.factor, mishaps=mishaps
        )
        ratio = float(got.cost.sum() / least.sum())
        found.append(
            Hardship(set=one.name, kind=kind, policy=name, jobs=count, misses=int(got.missed.sum()), ratio=ratio)
        )
    return found


def _as_seen(world: World, mishaps: Mishaps) -> World:
    """The world with all that no probe saw unknown."""
    if mishaps.probe is None or mishaps.probe <= world.gap:
        return world
    blind = np.mod(np.arange(world.ticks) * world.gap, mishaps.probe) >= world.gap
    return replace(world, state=np.where(blind[:, None], UNKNOWN, world.state).astype(np.int8))
