"""A fleet's worth of jobs that compete for a market, and how far from the best possible a plan of it is.

Ten GPU models, 1-8 GPUs a machine, spot and on-demand, most pools nearly sold out; gangs of one, two or four machines,
one to four hundred hours of work, some with deadlines. Made up, and harder than real life: there is less to be had
than is wanted.

The bound is Lagrangian: pools charge a toll per machine, every job takes the cheapest offer with tolls, and whatever
the tolls are, that sum less what full pools would collect is below every plan's cost. A pool of three machines has room
for one gang of two and for no gang of four, so pools charge tolls per whole pair and per whole four as well (the
rounding cuts of Chvatal and Gomory). A subgradient search raises the bound.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsched.scheduler.core.fleetplan.crowd import Crowd
from dsched.scheduler.core.fleetplan.group import Asked
from dsched.scheduler.core.hardware import Accelerator, Shape
from dsched.scheduler.core.job import Need, Spec
from dsched.scheduler.core.market import Market, Offer, Pool, Quote
from dsched.scheduler.core.placement import Placement, Policy, Question
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import HOUR, MINUTE, Instant, Millis, Moment, price

NOW: Final = Moment(wall=Instant(0), market=Instant(1_000 * HOUR))
PENALTY: Final = 5.0  # times its best offer, for a job that is not placed
SIZES: Final = (1, 2, 4, 8, 16, 32)  # machines of a gang
PARTS: Final = (1, 2, 4)  # machines that one toll is for: no pool has room for more than six
DRAWN: Final = np.array([[size // part for part in PARTS] for size in SIZES], np.float64)  # [G, P] tolls of a gang
BUNDLE: Final = 10  # like jobs that are one in the cheap rounds of the search for tolls
CHEAP: Final = 15  # such rounds for each that takes all jobs
STEPS: Final = (0.2, 0.0003)  # of the cheap rounds, first and last: shares of what a machine there costs a mean job
POLISH: Final = (0.001, 0.0001)  # of the others
CHIPS: Final = (
    ("T4", 16, 65), ("V100", 16, 125), ("A10G", 24, 70), ("L4", 24, 121), ("L40S", 48, 362), ("A100-40", 40, 312),
    ("A100-80", 80, 312), ("H100", 80, 989), ("H200", 141, 989), ("B200", 180, 2250),
)  # fmt: skip


def market(count: int, seed: int = 1) -> dict[str, Offer]:
    rng = random.Random(seed)
    shapes = [_shape(name, memory, peak, gpus) for name, memory, peak in CHIPS for gpus in (1, 2, 4, 8)]
    offers = {}
    for index in range(count):
        shape = rng.choice(shapes)
        chip = shape.accelerator
        assert chip is not None
        spot = index % 2 == 0
        usual = shape.gpus * (0.3 + chip.bf16_tflops / 220) * rng.uniform(0.8, 1.25)
        now = usual * (rng.uniform(0.25, 0.7) if spot else 1.0)
        pool = Pool("aws", f"r{index % 20}", f"z{index}", shape.name, Market.SPOT if spot else Market.ON_DEMAND)
        offers[pool.id] = Offer(
            pool=pool,
            shape=shape,
            quote=Quote(price=price(round(now, 6)), at=NOW.market, source="bench"),
            on_demand=price(round(usual, 6)),
            free=0 if rng.random() < 0.15 else rng.randint(1, 6),
            hazard=rng.lognormvariate(-3.5, 1.0) if spot else 0.0,
            notice=Millis(2 * MINUTE),
            boot=Millis(rng.randint(60, 300) * 1_000),
        )
    return offers


def _shape(name: str, memory: int, peak: int, gpus: int) -> Shape:
    chip = Accelerator(
        name=name, memory_gib=memory, bandwidth_gb_s=1_000, bf16_tflops=peak, fp8_tflops=None, tdp_watts=400
    )
    return Shape(name=f"{name.lower()}.{gpus}", accelerator=chip, gpus=gpus, vcpus=8 * gpus, memory_gib=64 * gpus)


def jobs(count: int, seed: int = 2, *, deadlines: float = 0.3) -> tuple[Job, ...]:
    rng = random.Random(seed)
    return tuple(_job(index, rng, deadlines) for index in range(count))


def _job(index: int, rng: random.Random, deadlines: float) -> Job:
    gpus = rng.choice((1, 2, 4, 8)) * rng.choice((1, 2, 4))
    hours = 400.0 ** rng.random()
    need = Need(
        gpus_min=gpus,
        gpus_max=gpus,
        gpu_memory_gib=rng.choice((16, 16, 24, 40, 80)),
        markets=(Market.ON_DEMAND,) if rng.random() < 0.1 else (Market.SPOT, Market.RESERVED, Market.ON_DEMAND),
    )
    deadline = Instant(NOW.market + round(hours * rng.uniform(4, 40) * HOUR)) if rng.random() < deadlines else None
    spec = Spec(name="bench", run="true", need=need, duration=Millis(round(hours * HOUR)), deadline=deadline)
    born = Moment(wall=Instant(index), market=Instant(NOW.market - count_ms(index)))
    return Job(id=f"j{index:05}", key=str(index), spec=spec, state=JobState.QUEUED, submitted=born)


def count_ms(index: int) -> int:
    """All came within the last hour, in a mixed order."""
    return (index * 7_919) % HOUR


@dataclass(frozen=True, slots=True)
class Block:
    """One class of jobs against its offers."""

    jobs: list[str]
    rows: NDArray[np.int64]  # [F]
    nodes: NDArray[np.float32]  # [F]
    cost: NDArray[np.float32]  # [J, F] dollars; inf: not in time
    penalty: NDArray[np.float32]  # [J]
    count: NDArray[np.float64]  # [J] jobs that each stands for
    mean: NDArray[np.float64]  # [F] dollars, of all jobs
    gang: NDArray[np.int64]  # [F] size and pool in one number


class Contest:
    """All costs of one question, to judge plans by."""

    def __init__(self, question: Question, policy: Policy) -> None:
        crowd = Crowd(question, policy, NOW)
        self.index = crowd.columns.index
        self.free = crowd.shelf.had.astype(np.float64)  # [O]
        groups: defaultdict[int, list[Asked]] = defaultdict(list)
        for job in question.jobs:
            asked = crowd.asked(job)
            groups[id(asked.group)].append(asked)
        self.blocks = [self._block(equals) for equals in groups.values() if len(equals[0].group.lanes.rows)]

    def _block(self, equals: Sequence[Asked]) -> Block:
        lanes = equals[0].group.lanes
        terms = lanes.terms
        work = np.array([asked.work for asked in equals])[:, None]
        due = [np.inf if a.job.spec.deadline is None else (a.job.spec.deadline - NOW.market) / HOUR for a in equals]
        cost = (terms.fixed + terms.rate * work) / 1e6
        mean = cost.mean(axis=0)
        late = terms.boot + work / terms.pace > np.array(due)[:, None]
        penalty = cost.min(axis=1) * PENALTY
        cost[late] = np.inf
        return Block(
            [asked.job.id for asked in equals],
            lanes.rows,
            terms.nodes.astype(np.float32),
            cost.astype(np.float32),
            penalty.astype(np.float32),
            np.ones(len(equals)),
            mean,
            np.searchsorted(SIZES, terms.nodes) * len(self.free) + lanes.rows,
        )

    def cost(self, placements: Iterable[Placement]) -> float:
        """Of a plan, dollars; what is not placed pays its penalty."""
        chosen: Mapping[str, int] = {placed.job: self.index[placed.pool.id] for placed in placements}
        total = 0.0
        for block in self.blocks:
            place = {int(row): place for place, row in enumerate(block.rows)}
            for at, name in enumerate(block.jobs):
                row = chosen.get(name)
                total += float(block.penalty[at]) if row is None else float(block.cost[at, place[row]])
        return total

    def bound(self, rounds: int) -> float:
        """A cost that no plan can be below, dollars; the more rounds, the closer to the best plan's.

        Most rounds are cheap ones, over bundles of like jobs without their deadlines: they find where tolls belong.
        The rest are over all jobs, and only these bound.
        """
        full = np.stack([self.free // part for part in PARTS])  # [P, O]
        bundles = [_bundles(block) for block in self.blocks]
        toll, _ = self._search(bundles, np.zeros_like(full), full, CHEAP * rounds, STEPS)
        _, best = self._search(self.blocks, toll, full, rounds, POLISH)
        return best

    def _search(
        self,
        blocks: Sequence[Block],
        toll: NDArray[np.float64],
        full: NDArray[np.float64],
        rounds: int,
        steps: tuple[float, float],
    ) -> tuple[NDArray[np.float64], float]:
        """The best tolls of so many rounds, and their bound.

        Subgradients of the dual in steps scaled by their own running size (Adam; Kingma and Ba 2015) that shrink
        geometrically, and are larger where machines are dear. Sizes are forgotten as fast as directions, or early
        rounds keep late steps too small.
        """
        mean, square, best, found = 0.0, 0.0, -np.inf, toll
        (first, last), unit = steps, self._unit()
        for turn in range(1, rounds + 1):
            value, used = _relaxed(blocks, toll, full)
            if value > best:
                best, found = value, toll
            slope = used - full
            slope[(toll <= 0) & (slope < 0)] = 0.0
            mean = 0.9 * mean + 0.1 * slope
            square = 0.9 * square + 0.1 * slope * slope
            step = unit * first * (last / first) ** (turn / rounds)
            toll = np.maximum(0.0, toll + step * mean / (np.sqrt(square * (1 - 0.9**turn)) + 1e-9))
        return found, best

    def _unit(self) -> NDArray[np.float64]:
        """What a machine of each pool costs the mean job that may use it, dollars. [O]"""
        paid, jobs = np.zeros(len(self.free)), np.full(len(self.free), 1e-9)
        for block in self.blocks:
            paid[block.rows] += block.mean * len(block.jobs)
            jobs[block.rows] += block.nodes * len(block.jobs)
        return paid / jobs


def _bundles(block: Block) -> Block:
    """Its jobs by work, BUNDLE at a time, as if each bundle could be split at will."""
    order = np.argsort(block.penalty)
    each = np.array_split(order, -(-len(order) // BUNDLE))
    in_time = np.where(np.isfinite(block.cost), block.cost, block.penalty[:, None])
    return Block(
        [block.jobs[one[0]] for one in each],
        block.rows,
        block.nodes,
        np.stack([in_time[one].mean(axis=0) for one in each]),
        np.stack([block.penalty[one].mean() for one in each]),
        np.array([len(one) for one in each], np.float64),
        block.mean,
        block.gang,
    )


def _relaxed(
    blocks: Sequence[Block], toll: NDArray[np.float64], full: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Every job at its cheapest with tolls [P, O]: the bound at these tolls, and what is taken of each pool."""
    charged = (DRAWN @ toll).astype(np.float32).ravel()  # [G * O]
    gangs = np.zeros(len(charged))
    value = -float((toll * full).sum())
    for block in blocks:
        paid = block.cost + charged[block.gang]
        at = paid.argmin(axis=1)
        least = paid[np.arange(len(at)), at]
        placed = least < block.penalty
        value += float((np.where(placed, least, block.penalty) * block.count).sum(dtype=np.float64))
        np.add.at(gangs, block.gang[at[placed]], block.count[placed])
    return value, DRAWN.T @ gangs.reshape(len(SIZES), -1)


def first_come(question: Question, policy: Policy) -> list[Placement]:
    """The same planner, serving by age: what the order is worth."""
    crowd = Crowd(question, policy, NOW)
    for job in sorted(question.jobs, key=lambda job: job.submitted.market):
        crowd.place(crowd.asked(job))
    return crowd.placements()
