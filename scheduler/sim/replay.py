"""Play jobs through a world, tick by tick, as a deadline policy wills. Many jobs in lockstep, one call of it for all.

The tick semantics are those of "Can't Be Late": at the start of a tick an interruption is seen (what was done up to
then is kept, lost work is part of the changeover), the policy is asked, and what runs in the tick is billed whole. A
launch spends its changeover in wall time before the first new step. Egress is paid when the checkpoint changes region.
A job that is not done at its deadline is a miss, and finishes on on-demand.

With `Mishaps` the world is less kind: launches fail and are only then seen to, zones are seen by probes alone, and the
changeover is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from dsched.scheduler.core.deadline.cheapest import HOUR
from dsched.scheduler.core.deadline.view import (
    DOWN,
    IDLE,
    SPOT,
    UNKNOWN,
    UP,
    Batch,
    Bools,
    DeadlinePolicy,
    Floats,
    Ints,
)
from dsched.scheduler.sim.world import World

DONE: Final = 1e-3  # s of work that count as none
COOL: Final = 600.0  # s for which a zone that refused is taken to be down

Foresee = Callable[[World, int, float], Any]  # (world, tick, changeover in s) -> Outlook or None
Watch = Callable[[Ints, Batch, Ints], None]  # (jobs [j], what they saw, where they went [j])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Jobs:
    """J jobs in one world."""

    start: Ints  # [J] tick
    ticks: Ints  # [J] until the deadline
    work: Floats  # [J] s
    changeover: Floats  # [J] s

    def __len__(self) -> int:
        return len(self.start)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcomes:
    """What became of J jobs."""

    cost: Floats  # [J] $, all in
    by_market: Floats  # [J, 2] $ of instances: on-demand, spot
    egress: Floats  # [J] $
    launches: Ints  # [J]
    interruptions: Ints  # [J]
    finish: Floats  # [J] s after the start
    missed: Bools  # [J]
    saved: Ints  # [J] ticks in which the safety net overruled the policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Mishaps:
    """What goes wrong. Everything is drawn from `seed`."""

    seed: int = 0
    refusal: float = 0.0  # chance that a launch of spot that is there fails all the same
    sure_refusal: float = 0.0  # chance that a launch of on-demand fails
    sure_tries: int = 3  # of on-demand, after which a launch is granted in any case
    fail: tuple[float, float] = (60.0, 180.0)  # s until a launch is seen to fail, drawn evenly
    probe: float | None = None  # s between two looks at the zones; None: they are always seen
    spread: float = 0.0  # the changeover of each launch is drawn from +- this share

    @property
    def retry(self) -> float:
        """s within which on-demand can be had, however many tries it takes."""
        return (self.sure_tries - 1) * self.fail[1] if self.sure_refusal else 0.0


@dataclass(slots=True, eq=False)
class _Run:
    """J jobs under way."""

    world: World
    jobs: Jobs
    left: Floats  # [J] s of work
    warm_in: Floats
    running: Ints
    held: Ints  # [J] region of the checkpoint; -1: there is none yet
    lost: Ints
    out: Outcomes
    refused: Floats  # [J, O] market s of the last refusal
    tried: Ints  # [J] launches of on-demand that failed since the last that did not
    asleep: Floats  # [J] market s before which the policy does not want to be asked
    luck: np.random.Generator
    mishaps: Mishaps | None
    blind: bool  # a launch may fail: what was refused is remembered
    going: Bools = field(default_factory=lambda: np.zeros(0, bool))  # [J]


def replay(
    world: World,
    jobs: Jobs,
    policy: DeadlinePolicy,
    *,
    foresee: Foresee | None = None,
    hazard: Floats | None = None,
    mishaps: Mishaps | None = None,
    watch: Watch | None = None,
) -> Outcomes:
    """The jobs' outcomes. `hazard` [T, Z]: the zones' factors on the age law, as known at each tick.

    With `foresee` the jobs share the world's absolute time and one changeover, as its outlooks do; else they run in
    lockstep from their own starts, which is faster. Raises ValueError for jobs that the world does not cover.
    """
    _check(world, jobs, foresee)
    run = _begin(world, jobs, mishaps)
    for now, tick in _ticks(jobs, run, absolute=foresee is not None):
        awake = _interrupt(run, now, tick) | _due(run, now, tick)
        if awake.any():
            outlook = foresee(world, int(tick[0]), float(jobs.changeover[0])) if foresee else None
            _decide(run, now[awake], tick[awake], policy, outlook, hazard, watch)
        _advance(run, now, tick)
    return run.out


def _check(world: World, jobs: Jobs, foresee: Foresee | None) -> None:
    if len(jobs) and (jobs.start.min() < 0 or (jobs.start + jobs.ticks).max() > world.ticks):
        raise ValueError(f"a job leaves the {world.ticks} ticks of {world.name}")
    if foresee and len(np.unique(jobs.changeover)) > 1:
        raise ValueError("jobs that share outlooks must share their changeover")


def _begin(world: World, jobs: Jobs, mishaps: Mishaps | None) -> _Run:
    count, options = len(jobs), world.price.shape[1]
    return _Run(
        world=world,
        jobs=jobs,
        left=jobs.work.astype(np.float64).copy(),
        warm_in=np.zeros(count),
        running=np.full(count, IDLE),
        held=np.full(count, -1),
        lost=np.full(count, -1),
        out=Outcomes(
            cost=np.zeros(count),
            by_market=np.zeros((count, 2)),
            egress=np.zeros(count),
            launches=np.zeros(count, np.int64),
            interruptions=np.zeros(count, np.int64),
            finish=np.zeros(count),
            missed=np.zeros(count, bool),
            saved=np.zeros(count, np.int64),
        ),
        refused=np.full((count, options), -np.inf),
        tried=np.zeros(count, np.int64),
        asleep=np.full(count, -np.inf),
        luck=np.random.default_rng(0 if mishaps is None else mishaps.seed),
        mishaps=mishaps,
        blind=mishaps is not None or bool((world.state == UNKNOWN).any()),
        going=jobs.work > DONE,
    )


def _ticks(jobs: Jobs, run: _Run, *, absolute: bool) -> Iterator[tuple[Ints, Ints]]:
    """(jobs under way [j], their ticks [j]), until none is left."""
    if not len(jobs):
        return
    first, last = (
        (int(jobs.start.min()), int((jobs.start + jobs.ticks).max())) if absolute else (0, int(jobs.ticks.max()))
    )
    for step in range(first, last):
        now = np.flatnonzero(run.going & (jobs.start <= step) if absolute else run.going)
        if len(now):
            yield now, (np.full(len(now), step) if absolute else jobs.start[now] + step)


def _due(run: _Run, now: Ints, tick: Ints) -> Bools:
    """[j] whom to ask: whose next tick would be later than they wished, and all when a zone comes or goes."""
    late: Bools = (tick + 1) * run.world.gap > run.asleep[now] + DONE
    return late | run.world.turned[tick] | (run.mishaps is not None)


def _interrupt(run: _Run, now: Ints, tick: Ints) -> Bools:
    """Take the spot machines of zones that are down. Returns [j] who lost theirs."""
    world, sure = run.world, len(run.world.regions)
    on = run.running[now]
    gone: Bools = (on >= sure) & ~world.up[tick, np.maximum(on - sure, 0)]
    hit = now[gone]
    run.lost[hit] = world.place[run.running[hit]]
    run.out.interruptions[hit] += 1
    run.running[hit] = IDLE
    run.warm_in[hit] = 0.0
    return gone


def _decide(
    run: _Run, now: Ints, tick: Ints, policy: DeadlinePolicy, outlook: Any, hazard: Floats | None, watch: Watch | None
) -> None:
    """Ask the policy and do what it says; ask those again whose launch failed, until the tick is over."""
    late = np.zeros(len(run.running))  # [J] s of this tick that failed launches took
    while len(now):
        batch = _batch(run, now, tick, late[now], outlook, hazard)
        choices = policy.choose(batch)
        if watch:
            watch(now, batch, choices.target)
        run.out.saved[now] += choices.net
        run.asleep[now] = choices.revisit
        failed = _move(run, now, tick, choices.target, late)
        again = failed & (late[now] < run.world.gap)
        now, tick = now[again], tick[again]


def _batch(run: _Run, now: Ints, tick: Ints, late: Floats, outlook: Any, hazard: Floats | None) -> Batch:
    world, jobs = run.world, run.jobs
    rows, sure = len(now), len(world.regions)
    shape = (rows, world.price.shape[1])
    up, age = _seen(run, now, tick)
    begun: Floats = jobs.start[now] * np.float64(world.gap)
    held = run.held[now]
    factor = np.ones(shape)
    if hazard is not None:
        factor[:, sure:] = hazard[tick]
    moves = np.where(held[:, None] >= 0, world.egress[np.maximum(held, 0)][:, world.place], 0.0)
    return Batch(
        now=tick * world.gap + late,
        work=jobs.work[now],
        left=run.left[now],
        begun=begun,
        deadline=begun + jobs.ticks[now] * world.gap,
        running=run.running[now],
        warm_in=run.warm_in[now],
        lost=run.lost[now],
        grain=world.gap,
        usable=np.ones(shape, bool),
        up=up,
        age=age,
        price=world.price[tick],
        speed=np.broadcast_to(world.speed, shape),
        hazard=factor,
        changeover=np.broadcast_to(jobs.changeover[now][:, None], shape),
        egress=moves,
        market=np.broadcast_to(world.market, shape),
        region=np.broadcast_to(world.place, shape),
        outlook=outlook,
    )


def _seen(run: _Run, now: Ints, tick: Ints) -> tuple[Ints, Floats]:
    """[j, O] states and ages as the jobs see them."""
    world, sure = run.world, len(run.world.regions)
    up = np.full((len(now), world.price.shape[1]), UP)
    age = np.zeros(up.shape)
    up[:, sure:], age[:, sure:] = world.state[tick], world.age[tick]
    if not run.blind:
        return up, age
    if run.mishaps is not None and run.mishaps.probe is not None:
        since = np.mod(tick * world.gap, run.mishaps.probe)
        blind = since >= world.gap
        up[blind, sure:], age[blind, sure:] = UNKNOWN, since[blind, None]
    cold = tick[:, None] * world.gap - run.refused[now]
    up = np.where(cold < COOL, DOWN, up)
    age = np.where(cold < COOL, np.maximum(cold, 0.0), age)
    mine = np.flatnonzero(run.running[now] >= 0)
    up[mine, run.running[now][mine]] = UP
    return up, age


def _move(run: _Run, now: Ints, tick: Ints, target: Ints, late: Floats) -> Bools:
    """Stop and launch. Returns [j] whose launch failed."""
    world, out = run.world, run.out
    leaves = target == IDLE
    run.running[now[leaves]] = IDLE
    run.warm_in[now[leaves]] = 0.0
    launches = ~leaves & (target != run.running[now])
    failed: Bools = launches & ~_granted(run, now, tick, target)
    spot = target >= len(world.regions)
    run.tried[now[launches & ~spot]] += 1
    run.tried[now[launches & ~failed]] = 0
    run.refused[now[failed & spot], target[failed & spot]] = (tick * world.gap)[failed & spot]
    waits = now[failed & (run.running[now] == IDLE)]
    if run.mishaps is not None:
        late[waits] += run.luck.uniform(*run.mishaps.fail, len(waits))
    done = launches & ~failed
    who, where = now[done], target[done]
    moved = np.where(run.held[who] >= 0, world.egress[np.maximum(run.held[who], 0), world.place[where]], 0.0)
    out.egress[who] += moved
    out.cost[who] += moved
    out.launches[who] += 1
    run.running[who], run.held[who] = where, world.place[where]
    run.warm_in[who] = _changeover(run, who) + late[who]
    return failed


def _granted(run: _Run, now: Ints, tick: Ints, target: Ints) -> Bools:
    """[j] whether a launch there succeeds. On-demand always does in the end."""
    sure = len(run.world.regions)
    spot = target >= sure
    there = run.world.up[tick, np.maximum(target - sure, 0)]
    if run.mishaps is None:
        return ~spot | there
    luck = run.luck.random(len(target))
    patient = run.tried[now] >= run.mishaps.sure_tries - 1
    granted: Bools = np.where(spot, there & (luck >= run.mishaps.refusal), patient | (luck >= run.mishaps.sure_refusal))
    return granted


def _changeover(run: _Run, who: Ints) -> Floats:
    stated = run.jobs.changeover[who]
    if run.mishaps is None or run.mishaps.spread == 0:
        return stated
    return stated * run.luck.uniform(1 - run.mishaps.spread, 1 + run.mishaps.spread, len(who))


def _advance(run: _Run, now: Ints, tick: Ints) -> None:
    """Bill the tick, do the work, and let those go that are done or late."""
    world, out, gap = run.world, run.out, run.world.gap
    on = run.running[now]
    busy, where = now[on >= 0], on[on >= 0]
    bill = world.price[tick[on >= 0], where] * gap / HOUR
    out.cost[busy] += bill
    out.by_market[busy, (world.market[where] == SPOT).astype(np.int64)] += bill
    warm = run.warm_in[busy]
    useful, speed = np.maximum(gap - warm, 0.0), world.speed[where]
    passed = (tick[on >= 0] - run.jobs.start[busy]) * gap
    out.finish[busy] = passed + warm + run.left[busy] / speed
    run.warm_in[busy] = np.where(warm - (gap - useful) < DONE, 0.0, warm - (gap - useful))
    run.left[busy] = np.maximum(run.left[busy] - useful * speed, 0.0)
    run.going[now] = run.left[now] > DONE
    late = now[run.going[now] & (tick + 1 >= run.jobs.start[now] + run.jobs.ticks[now])]
    rest = run.left[late] * world.on_demand[run.jobs.start[late]].min(axis=1, initial=np.inf) / HOUR
    out.cost[late] += rest
    out.by_market[late, 0] += rest
    out.finish[late] = run.jobs.ticks[late] * gap + run.left[late]
    out.missed[late] = True
    run.going[late] = False
