"""How long one pass of the planner takes, beside a calibration loop that says how fast this machine is right now.

    .venv/bin/python bench/plan.py

Every figure is the best of several runs: the machine is shared, and noise only ever adds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from time import perf_counter

from dsched.providers import catalog
from dsched.scheduler.core.job import Need, Spec
from dsched.scheduler.core.market import Market, Offer, Pool, Quote
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.plan import plan
from dsched.scheduler.core.report import to_wire
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import HOUR, Instant, Millis, Moment, price

NOW = Moment(wall=Instant(0), market=Instant(0))
RUNS = 5
LOOP = 1_000_000


def market(count: int, *, free: int, seed: int = 1) -> dict[str, Offer]:
    """`count` offers over the catalog's GPU shapes, half of them spot."""
    rng = random.Random(seed)
    shapes = [listing.shape for listing in catalog.load().listings.values() if listing.shape.accelerator]
    offers = {}
    for index in range(count):
        shape = rng.choice(shapes)
        kind = Market.SPOT if index % 2 else Market.ON_DEMAND
        pool = Pool("aws", f"region-{index % 20}", f"zone-{index}", shape.name, kind)
        cost = rng.uniform(0.5, 8.0) * shape.gpus
        quote = Quote(price=price(round(cost, 4)), at=NOW.market, source="bench")
        offers[pool.id] = Offer(pool=pool, shape=shape, quote=quote, on_demand=price(round(cost * 2, 4)), free=free)
    return offers


def jobs(count: int, *, choosy: bool = True) -> tuple[Job, ...]:
    """Equal jobs that share no object, as they come out of a store; the choosy want two GPU models."""
    return tuple(
        Job(
            id=f"j{index:05}",
            key=f"k{index}",
            spec=Spec(
                name="bench",
                run="true",
                need=Need(accelerators=("H100", "H200") if choosy else (), gpus_min=8, gpus_max=32),
                duration=Millis(10 * HOUR),
            ),
            state=JobState.QUEUED,
            submitted=Moment(wall=Instant(index), market=Instant(index)),
        )
        for index in range(count)
    )


def best_ms(work: Callable[[], object]) -> float:
    times = []
    for _ in range(RUNS):
        began = perf_counter()
        work()
        times.append(perf_counter() - began)
    return min(times) * 1e3


def calibrate() -> None:
    total = 0
    for number in range(LOOP):
        total += number & 7


def main() -> None:
    policy, dice = Policy(), random.Random(0)

    def ask(queue: tuple[Job, ...], offers: Mapping[str, Offer]) -> Callable[[], object]:
        question = Question(jobs=queue, offers=offers)
        return lambda: plan(question, policy, now=NOW, rng=dice)

    plenty, sold_out = market(1_000, free=4), market(1_000, free=0)
    report = plan(Question(jobs=jobs(1), offers=plenty), policy, now=NOW, rng=dice).reports["j00000"]
    rows = (
        ("calibration: 1,000,000 turns of a plain loop", calibrate),
        ("1 job x 1,000 offers, two GPU models wanted", ask(jobs(1), plenty)),
        ("1 job x 1,000 offers, any GPU will do", ask(jobs(1, choosy=False), plenty)),
        ("100 placements of equal jobs x 1,000 offers", ask(jobs(100), plenty)),
        ("10,000 equal jobs that cannot be placed x 1,000 offers", ask(jobs(10_000), sold_out)),
        ("one report of 1,000 lines as JSON-ready values", lambda: to_wire(report)),
    )
    for words, work in rows:
        print(f"{best_ms(work):9.1f} ms  {words}")


if __name__ == "__main__":
    main()
