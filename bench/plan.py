"""How long one pass of the planner takes, beside a calibration loop that says how fast this machine is right now.

    .venv/bin/python bench/plan.py [--solver]

Every figure is the best of several runs: the machine is shared, and noise only ever adds.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import contention
from bench.figure import Figure, hand_over
from dsched.providers import catalog
from dsched.scheduler.core.fleetplan.columns import Columns
from dsched.scheduler.core.job import Need, Spec
from dsched.scheduler.core.market import Market, Offer, Pool, Quote
from dsched.scheduler.core.message import Message, OffersSeen, Place, Restarted, Submit, Tick
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.plan import Plan, plan
from dsched.scheduler.core.proposal import pose
from dsched.scheduler.core.report import to_wire
from dsched.scheduler.core.snapshot import Attempt, Job, Node, State
from dsched.scheduler.core.state import JobState, NodeState
from dsched.scheduler.core.step import handle
from dsched.scheduler.core.terms import Terms
from dsched.scheduler.core.units import HOUR, MINUTE, Instant, MicroUsdPerHour, Millis, Moment, price
from dsched.scheduler.engine.propose import SOLVER
from dsched.scheduler.engine.worker import Worker

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


def best_ms(work: Callable[[], object], clock: Callable[[], float] = perf_counter) -> float:
    """`clock=process_time`: what it takes of this process alone, whatever else the machine does."""
    times = []
    for _ in range(RUNS):
        began = clock()
        work()
        times.append(clock() - began)
    return min(times) * 1e3


def calibrate() -> None:
    total = 0
    for number in range(LOOP):
        total += number & 7


def crowd(classes: int, offers: Mapping[str, Offer]) -> Callable[[str], float]:
    """A core with 10,000 waiting jobs of so many classes: one tick, or the longest pass after every price moved."""
    state, policy, dice, terms = State(cluster="b" * 32), Policy(), random.Random(0), Terms()

    def tell(message: Message) -> None:
        handle(state, message, NOW, dice, policy, terms)

    def sweep() -> float:
        longest = 0.0
        while state.dirty:
            began = perf_counter()
            tell(Place())
            longest = max(longest, perf_counter() - began)
        return longest * 1e3

    tell(OffersSeen(provider="aws", offers=tuple(offers.values())))
    for number in range(10_000):
        need = Need(accelerators=("H100",), gpus_min=8, gpus_max=8, price_max=MicroUsdPerHour(1 + number % classes))
        tell(Submit(spec=Spec(name="bench", run="true", need=need), key=str(number)))
    gc.freeze()  # as the daemon does: a full collection is not the planner's time
    gc.set_threshold(20_000, 20, 50)
    first = sweep()

    def ask(what: str) -> float:
        if what == "tick":
            return best_ms(lambda: tell(Tick()))
        if what == "first":
            return first
        state.wake()
        return sweep()

    return ask


def running(count: int, offers: Mapping[str, Offer]) -> Callable[[], object]:
    """A core with so many jobs that run, each on a machine of its own: a tick in which nobody's turn has come."""
    state, policy, dice, terms = State(cluster="b" * 32, offers=dict(offers)), Policy(), random.Random(0), Terms()
    pools = [offer for offer in offers.values() if offer.pool.market is Market.SPOT and offer.quote is not None]
    for number in range(count):
        offer = pools[number % len(pools)]
        name, node, gpus = f"j{number:05}", f"t{number}.0", offer.shape.gpus
        assert offer.quote is not None
        machine = Node(
            id=node,
            token=f"t{number}",
            index=0,
            pool=offer.pool,
            gpus=gpus,
            state=NodeState.READY,
            lease_until=Instant(HOUR),
            rate=offer.quote.price,
            ceiling=offer.quote.price,
            rate_source="bench",
            rate_at=NOW.market,
            on_demand=offer.on_demand,
            ref=node,
            job=name,
            generation=1,
            running=True,
            launched=NOW.market,
            metered=NOW.market,
        )
        job = Job(
            id=name,
            key=name,
            spec=Spec(name="bench", run="true", need=Need(gpus_min=gpus, gpus_max=2 * gpus), user=f"u{number % 50}"),
            state=JobState.RUNNING,
            submitted=NOW,
            generation=1,
            nodes=(node,),
            last_nodes=(node,),
            started=NOW.market,
        )
        run = Attempt(job=name, generation=1, pool=offer.pool.id, nodes=(node,), world_size=1, decided=NOW, running=NOW)
        for table, key, row in (("node", node, machine), ("attempt", f"{name}/1", run), ("job", name, job)):
            state.put(table, key, row)
    handle(state, Restarted(), NOW, dice, policy, terms)
    gc.freeze()  # as the daemon does
    soon = Moment(wall=Instant(NOW.wall + MINUTE), market=Instant(NOW.market + MINUTE))
    return lambda: handle(state, Tick(), soon, dice, policy, terms)


def drain(count: int, classes: int, offers: int) -> None:
    """A live queue in a large market: passes until all are placed, each with its stored decision, and the longest."""
    state, policy, dice, terms = State(cluster="b" * 32), Policy(), random.Random(0), Terms()
    now = contention.NOW

    def tell(message: Message) -> float:
        began = process_time()
        handle(state, message, now, dice, policy, terms)
        return (process_time() - began) * 1e3

    tell(OffersSeen(provider="aws", offers=tuple(contention.market(offers).values())))
    for number in range(count):
        kind = number % classes
        need = Need(gpus_min=1 << kind % 5, gpus_max=1 << kind % 5, gpu_memory_gib=16 + kind // 5)
        spec = Spec(name="bench", run="true", need=need, duration=Millis((1 + number % 97) * HOUR))
        tell(Submit(spec=spec, key=str(number)))
    gc.collect()
    gc.freeze()  # as the daemon does
    gc.set_threshold(1_000, 4, 500)
    passes = []
    while state.dirty:
        passes.append(tell(Place()))
    loop = best_ms(calibrate, process_time)
    placed = sum(job.state is not JobState.QUEUED for job in state.jobs.values())
    name = f"a queue of {count:,} jobs in {classes} classes, {offers:,} offers: longest pass"
    print(f"{max(passes):9.1f} ms  {name}, of CPU time ({max(passes) / loop:.1f} calibration loops of {loop:.0f} ms)")
    print(f"{sum(passes) / len(passes):9.1f} ms  mean of its {len(passes)} passes, in which {placed:,} were placed")
    hand_over([Figure(name=name, value=max(passes), unit="ms", goal=100, limit=loop, beside="calibration loop")])


def contest(count: int, offers: int, rounds: int) -> None:
    """So many jobs that compete: the pass, and what its plan costs beside first come, first served and the bound."""
    policy = Policy(placements_max=count)
    question = Question(jobs=contention.jobs(count), offers=contention.market(offers))
    ready = replace(question, columns=Columns.of(question.offers))
    one = replace(question, jobs=question.jobs[:1])
    gc.collect()
    gc.freeze()  # as the daemon does
    gc.set_threshold(20_000, 20, 50)

    def ask(what: Question) -> Callable[[], Plan]:
        return lambda: plan(what, policy, now=contention.NOW, rng=random.Random(0))

    loop, cold, row = best_ms(calibrate), best_ms(ask(question)), best_ms(ask(one))
    cpu_loop, cpu, cached = (best_ms(work, process_time) for work in (calibrate, ask(question), ask(ready)))
    judge = contention.Contest(question, policy)
    ours = judge.cost(ask(ready)().placements)
    fifo = judge.cost(contention.first_come(ready, policy))
    bound = judge.bound(rounds)
    name = f"{count:,} jobs x {offers:,} offers"
    print(f"{cold:9.1f} ms  {name}: full pass, all new ({cold / loop:.1f} calibration loops of {loop:.0f} ms)")
    print(f"{cpu:9.1f} ms  {name}: of CPU time ({cpu / cpu_loop:.1f} such loops)")
    print(f"{cached:9.1f} ms  {name}: of CPU time, the market's columns made before")
    apart = f"one job after the other, reckoned from one of them; x {row * count / cold:,.0f}"
    print(f"{row * count / 1e3:9.1f} s   {name}: {apart}")
    dearer = f"first come, first served costs {fifo / ours - 1:.0%} more"
    print(f"{ours / bound - 1:9.2%}     {name}: over the dual bound, at most ({rounds} rounds); {dearer}")
    over, saved = 100 * (ours / bound - 1), 100 * (1 - ours / fifo)
    hand_over(
        [
            Figure(name=f"{name}: full pass", value=cold, unit="ms", goal=250, limit=loop, beside="calibration loop"),
            Figure(name=f"{name}: CPU time", value=cpu, unit="ms", goal=250, limit=cpu_loop, beside="calibration loop"),
            Figure(name=f"{name}: over the dual bound", value=over, unit="%", goal=1.5, note="of a bound, not a plan"),
            Figure(name=f"{name}: saved against first come", value=saved, unit="%", goal=5, at_least=True),
        ]
    )


def solver(count: int, offers: int) -> None:
    """The process that improves on the greedy plan: its start, an answer, and what it takes of memory."""
    policy = Policy(solver=Millis(2_000), placements_max=count)
    question = Question(jobs=contention.jobs(count), offers=contention.market(offers))
    posed = pose(question, policy, contention.NOW, plan(question, policy, now=contention.NOW, rng=random.Random(0)))
    assert posed is not None, "these jobs compete"

    async def ask() -> tuple[float, float, float]:
        worker, times = Worker(SOLVER, patience=60.0), []
        for _ in range(RUNS):
            began = perf_counter()
            await worker.ask(posed.puzzle)
            times.append(perf_counter() - began)
        assert worker.process is not None, "it has just answered"
        status = Path(f"/proc/{worker.process.pid}/status").read_text()
        await worker.close()
        peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
        return times[0] * 1e3, min(times[1:]) * 1e3, int(peak) / 1024

    start, answer, memory = asyncio.run(ask())
    name = f"the solver on {count} jobs and {offers} offers"
    print(f"{answer:9.1f} ms  {name}; {start:.0f} ms with the start of its process, which takes {memory:.0f} MiB")
    gap = posed.greedy / posed.bound - 1
    print(f"{gap:9.1%}     {name}: over everybody's best offer, before it is asked")


def main() -> None:
    if sys.argv[1:] == ["--solver"]:
        solver(40, 100)
        return
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
    for classes in (1, 1_000):
        core = crowd(classes, market(300, free=4))
        for what, words in (
            ("first", "longest pass"),
            ("again", "longest pass after a move of prices"),
            ("tick", "tick"),
        ):
            name = f"10,000 waiting jobs of {classes:,} classes x 300 offers: {words}"
            taken = core(what)
            print(f"{taken:9.1f} ms  {name}")
            hand_over([Figure(name=name, value=taken, unit="ms", goal=100)])
    name = "10,000 running jobs x 300 offers: tick, of CPU time"
    taken = best_ms(running(10_000, market(300, free=4)), process_time)
    print(f"{taken:9.1f} ms  {name}")
    hand_over([Figure(name=name, value=taken, unit="ms", goal=30)])
    drain(1_000, 50, 10_000)
    contest(1_000, 2_000, rounds=400)
    contest(10_000, 10_000, rounds=400)
    solver(40, 100)


if __name__ == "__main__":
    main()
