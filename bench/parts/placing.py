"""Play every policy over every cell of a folder of traces, in a few processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from time import perf_counter, process_time
from typing import Final

import numpy as np

from bench.parts.placing_hard import KINDS, Hardship, hardships
from dsched.scheduler.core.deadline.baselines import LifetimeOracle
from dsched.scheduler.core.deadline.guard import guarded
from dsched.scheduler.core.deadline.outlook import Library
from dsched.scheduler.core.deadline.patience import Patient
from dsched.scheduler.core.deadline.policies import named
from dsched.scheduler.core.deadline.view import Batch, Choices, DeadlinePolicy, Floats, Ints
from dsched.scheduler.sim.foresight import Foresight, Past, past
from dsched.scheduler.sim.optimum import exact, optimum
from dsched.scheduler.sim.replay import Jobs, Outcomes, replay
from dsched.scheduler.sim.score import BLOCK, Cell
from dsched.scheduler.sim.sets import CHANGEOVERS, SHORT, SLACKS, Draw, Set, can_end, deadline_ticks, draw, sets
from dsched.scheduler.sim.trace import BadTrace, Zone, read_folder
from dsched.scheduler.sim.world import in_a_row

ORACLE: Final = "up+oracle"
FORESEES: Final = ("slack",)  # policies that need outlooks
PEERS: Final = ("up", "up-s")  # always played: nobody should be dearer than the cheaper of them
POLICIES: Final = ("on-demand", "greedy", "time-sliced", "up", "up-s", "skynomad", ORACLE, "slack")
SMOKE: Final = 200  # jobs
LATENCY_LOOKS: Final = 200  # decisions for one job that are timed
SHORT_BLOCK: Final = BLOCK / 3.5  # two days: in traces of a week or two, a week is nearly all there is


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    traces: Path
    seed: int
    jobs: int
    policies: tuple[str, ...]
    only: str = ""

    @property
    def played(self) -> tuple[str, ...]:
        """The asked-for policies, and those that all are measured against."""
        wanted = {*self.policies, *PEERS, "on-demand"}
        return tuple(name for name in POLICIES if name in wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Where the jobs of a cell were: the same for all policies."""

    cell: tuple[str, float, float, float]
    gang: int
    gap: float
    work: float
    ticks: int
    zones: tuple[tuple[str, ...], ...]  # [J]
    first: tuple[tuple[int, ...], ...]  # [J] which tick of each zone's trace is tick 0
    start: Ints  # [J]


@dataclass(slots=True, kw_only=True)
class Played:
    plan: Plan
    cells: list[Cell] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    worlds: dict[str, dict[str, object]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # CPU by part
    decision_ms: dict[str, float] = field(default_factory=dict)
    hardships: list[Hardship] = field(default_factory=list)
    wall: float = 0.0

    def add(self, other: Played) -> None:
        self.cells += other.cells
        self.rows += other.rows
        self.left_out += other.left_out
        self.hardships += other.hardships
        for part, seconds in other.seconds.items():
            self.seconds[part] = self.seconds.get(part, 0.0) + seconds
        for name, ms in other.decision_ms.items():
            self.decision_ms[name] = max(ms, self.decision_ms.get(name, 0.0))


def play(plan: Plan, *, workers: int) -> Played:
    """All cells. Raises BadTrace for a folder that cannot be read, or in which there is nothing to play."""
    began = perf_counter()
    found, left_out = _sets(plan.traces)
    whole = Played(plan=plan, left_out=list(left_out))
    chosen = [one for one in found if plan.only in one.name]
    if not chosen:
        only = f" whose name holds {plan.only!r}" if plan.only else ""
        told = "\n".join(f"  left out: {line}" for line in left_out)
        raise BadTrace(f"{plan.traces} has no set of zones{only} to play; add zones or longer traces\n{told}")
    for one in chosen:
        whole.worlds[one.name] = _describe(one)
    ordered = sorted(chosen, key=_weight, reverse=True)
    tasks: list[tuple[Plan, str, float | str]] = [(plan, one.name, at) for one in ordered for at in CHANGEOVERS]
    if "slack" in plan.policies:
        tasks += [(plan, one.name, kind) for one in _hard(chosen) for kind in KINDS]
    with ExitStack() as stack:
        in_turn = map if workers == 1 else stack.enter_context(ProcessPoolExecutor(max_workers=workers)).map
        for part in in_turn(_play_task, tasks):
            whole.add(part)
    whole.wall = perf_counter() - began
    return whole


def smoke(plan: Plan) -> Played:
    """SMOKE short jobs in this process: two zones of the first single set, the first multi set, one changeover."""
    began = perf_counter()
    found, left_out = _sets(plan.traces)
    whole = Played(plan=replace(plan, jobs=SMOKE // (2 * len(SLACKS))), left_out=list(left_out))
    for single in (True, False):
        one = next((one for one in found if one.single is single), None)
        if one is None:
            continue
        one = replace(
            one, work=min(one.work, SHORT), worlds=one.worlds[:2], ratios=one.ratios[len(one.ratios) // 2 :][:1]
        )
        whole.worlds[one.name] = _describe(one)
        whole.add(_play_set(whole.plan, one, CHANGEOVERS[1], one.ratios))
    whole.wall = perf_counter() - began
    return whole


@cache
def _sets(traces: Path) -> tuple[list[Set], list[str]]:
    zones: list[Zone] = read_folder(traces)
    return sets(zones)


@cache
def _library() -> Library:
    """One per process: zones, ratios and sets find each other's tables."""
    return Library()


@cache
def _past(traces: Path, name: str, index: int) -> Past:
    """Shared by the changeovers and price ratios that one process happens to play; spot costs the same in all."""
    one = next(one for one in _sets(traces)[0] if one.name == name)
    return past(one.priced(one.ratios[0])[index])


def _weight(one: Set) -> float:
    """What a set costs to play, roughly: the dearest first, so that no worker is left with one at the end."""
    return sum(world.ticks * (len(world.zones) + 2) for world in one.worlds) * len(one.ratios) / one.worlds[0].gap


def _describe(one: Set) -> dict[str, object]:
    world = one.worlds[0]
    return {
        "zones": [list(world.zones) for world in one.worlds],
        "regions": list(world.regions) if not one.single else [],
        "zone_region": world.region.tolist() if not one.single else [],
        "on_demand": world.on_demand[0].tolist() if not one.single else [],
        "egress_usd": world.egress.tolist() if not one.single else [],
        "gang": one.gang,
        "gap_s": world.gap,
        "work_s": one.work,
        "lower_bounds": [  # (slack, changeover): ticks so short that the optimum is not exact
            (slack, changeover)
            for slack in SLACKS
            for changeover in CHANGEOVERS
            if not exact(world.gap, deadline_ticks(one, slack), one.work, changeover)
        ],
        "prices": "spot 1, on-demand the ratio" if one.single else "as in the traces, whatever the gang",
    }


def _hard(found: Sequence[Set]) -> list[Set]:
    """One single and one multi set, each with the most zones."""
    kinds = [[one for one in found if one.single is kind] for kind in (True, False)]
    return [max(some, key=lambda one: sum(len(world.zones) for world in one.worlds)) for some in kinds if some]


def _play_task(task: tuple[Plan, str, float | str]) -> Played:
    """A changeover of a set, or one kind of mishap."""
    plan, name, what = task
    one = next(one for one in _sets(plan.traces)[0] if one.name == name)
    if isinstance(what, float):
        return _play_set(plan, one, what, one.ratios)
    clock = process_time()
    part = Played(plan=plan, hardships=hardships(one, what, seed=plan.seed))
    part.seconds["mishaps"] = process_time() - clock
    return part


def _play_set(plan: Plan, one: Set, changeover: float, ratios: Sequence[float]) -> Played:
    """All slacks and ratios of one set at one changeover."""
    part = Played(plan=plan)
    draws = []
    for slack in SLACKS:
        drawn = draw(one, slack, plan.jobs, plan.seed)
        if drawn is not None and can_end(one, slack, changeover):
            draws.append(drawn)
        else:
            why = "no trace is that long" if drawn is None else "not even on-demand would end in time"
            part.left_out.append(f"{one.name}, slack {slack}, changeover {changeover:.0f} s: {why}")
    if not draws:
        return part
    table = _Table(plan, one, changeover, tuple(ratios), draws)
    clock = process_time()
    least = optimum(table.whole, table.jobs)
    part.seconds["optimum"] = process_time() - clock
    outcomes: dict[str, Outcomes] = {}
    for name in plan.played:
        clock = process_time()
        outcomes[name] = table.slow(name, part) if name in FORESEES else table.quick(name)
        part.seconds[name] = process_time() - clock
    table.fill(part, outcomes, least)
    return part


class _Table:
    """The jobs of one set and changeover: slacks inside ratios, all worlds of all ratios in a row."""

    def __init__(self, plan: Plan, one: Set, changeover: float, ratios: tuple[float, ...], draws: list[Draw]) -> None:
        self.plan, self.one, self.changeover, self.ratios, self.draws = plan, one, changeover, ratios, draws
        self.priced = [one.priced(ratio) for ratio in ratios]
        self.whole, offsets = in_a_row([world for worlds in self.priced for world in worlds])
        self.world = np.concatenate([drawn.world for drawn in draws])  # [J] of one ratio
        self.start = np.concatenate([drawn.start for drawn in draws])
        self.ticks = np.repeat([drawn.ticks for drawn in draws], plan.jobs)
        at = np.concatenate([offsets[r * len(one.worlds) + self.world] for r in range(len(ratios))])
        self.jobs = self._jobs(at + np.tile(self.start, len(ratios)), np.tile(self.ticks, len(ratios)))

    def _jobs(self, start: Ints, ticks: Ints) -> Jobs:
        same = np.ones(len(start))
        return Jobs(start=start, ticks=ticks, work=same * self.one.work, changeover=same * self.changeover)

    def quick(self, name: str) -> Outcomes:
        """A rule that foresees nothing: all jobs at once."""
        life = self.whole.life
        if name == ORACLE:
            sure = len(self.whole.regions)

            def told(now: Floats) -> Floats:
                tick = np.floor(now / self.whole.gap + 1e-9).astype(np.int64)
                return np.concatenate([np.full((len(tick), sure), np.inf), life[tick]], axis=1)

            return replay(self.whole, self.jobs, guarded(LifetimeOracle(told)))
        hazard = None
        if name == "skynomad":
            factors = [_past(self.plan.traces, self.one.name, index).factor for index in range(len(self.one.worlds))]
            hazard = np.concatenate(factors * len(self.ratios))
        return replay(self.whole, self.jobs, guarded(named(name)), hazard=hazard)

    def slow(self, name: str, part: Played) -> Outcomes:
        """A rule that foresees: one world after the other, each on its own clock."""
        library, longest = _library(), float(self.ticks.max() * self.whole.gap)
        parts: list[tuple[Ints, Outcomes]] = []
        for r, worlds in enumerate(self.priced):
            for index, world in enumerate(worlds):
                mine = np.flatnonzero(self.world == index)
                if not len(mine):
                    continue
                seen = _past(self.plan.traces, self.one.name, index)
                ahead = Foresight(seen, world, horizon=longest, slack_max=longest - self.one.work, library=library)
                policy = _Timed(guarded(Patient(named(name))))
                jobs = self._jobs(self.start[mine], self.ticks[mine])
                got = replay(world, jobs, policy, foresee=ahead, hazard=seen.factor)
                parts.append((mine + r * len(self.world), got))
                part.decision_ms[name] = max(part.decision_ms.get(name, 0.0), policy.one_job_ms())
        return _merged(parts, len(self.jobs))

    def fill(self, part: Played, outcomes: Mapping[str, Outcomes], least: Floats) -> None:
        count, of_ratio = self.plan.jobs, len(self.world)
        for r, ratio in enumerate(self.ratios):
            for s, drawn in enumerate(self.draws):
                where = slice(r * of_ratio + s * count, r * of_ratio + (s + 1) * count)
                part.rows.append(self._row(drawn, ratio))
                block = self._blocks(drawn)
                sure = outcomes["on-demand"].cost[where]
                for name, got in outcomes.items():
                    part.cells.append(self._cell(name, drawn.slack, ratio, got, where, least, sure, block))

    def _cell(
        self,
        name: str,
        slack: float,
        ratio: float,
        got: Outcomes,
        where: slice,
        least: Floats,
        sure: Floats,
        block: Ints,
    ) -> Cell:
        return Cell(
            set=self.one.name,
            single=self.one.single,
            slack=slack,
            changeover=self.changeover,
            ratio=ratio,
            policy=name,
            cost=got.cost[where],
            optimum=least[where],
            on_demand=sure,
            egress=got.egress[where],
            launches=got.launches[where],
            misses=int(got.missed[where].sum()),
            block=block,
        )

    def _blocks(self, drawn: Draw) -> Ints:
        gap, span = self.whole.gap, self.one.worlds[0].ticks * self.whole.gap
        size = BLOCK if span > 3 * BLOCK else SHORT_BLOCK
        blocks: Ints = (drawn.start * gap // size).astype(np.int64) * len(self.one.worlds) + drawn.world
        return blocks

    def _row(self, drawn: Draw, ratio: float) -> Row:
        worlds = self.one.worlds
        return Row(
            cell=(self.one.name, drawn.slack, self.changeover, ratio),
            gang=self.one.gang,
            gap=self.whole.gap,
            work=self.one.work,
            ticks=drawn.ticks,
            zones=tuple(worlds[index].zones for index in drawn.world),
            first=tuple(worlds[index].first for index in drawn.world),
            start=drawn.start,
        )


def _merged(parts: Sequence[tuple[Ints, Outcomes]], count: int) -> Outcomes:
    """[J] outcomes out of those of some rows each."""

    def whole(pick: Callable[[Outcomes], np.ndarray]) -> np.ndarray:  # type: ignore[type-arg]
        first = pick(parts[0][1])
        out = np.zeros((count, *first.shape[1:]), first.dtype)
        for rows, got in parts:
            out[rows] = pick(got)
        return out

    return Outcomes(**{name: whole(lambda got, name=name: getattr(got, name)) for name in Outcomes.__slots__})


class _Timed:
    """A policy that keeps a few of its questions, to be timed one job at a time."""

    def __init__(self, inner: DeadlinePolicy) -> None:
        self.inner = inner
        self.kept: list[Batch] = []
        self.asked = 0

    @property
    def name(self) -> str:
        return self.inner.name

    def choose(self, batch: Batch) -> Choices:
        self.asked += 1
        if self.asked % 50 == 1 and len(self.kept) < LATENCY_LOOKS // 10:
            self.kept.append(_first(batch))
        return self.inner.choose(batch)

    def one_job_ms(self) -> float:
        """Median over the kept questions."""
        times = []
        for batch in self.kept:
            began = perf_counter()
            self.inner.choose(batch)
            times.append(perf_counter() - began)
        return float(np.median(times) * 1e3) if times else 0.0


def _first(batch: Batch) -> Batch:
    arrays = {name: getattr(batch, name) for name in Batch.__slots__}
    return Batch(**{name: value[:1] if isinstance(value, np.ndarray) else value for name, value in arrays.items()})
