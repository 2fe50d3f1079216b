"""Read a text story (a market and some jobs), run the planner on it, and print what it decided.

A line is a command; `#` begins a comment.

    clock scale=60                                        market ms per wall ms; 1 when absent
    policy restart=10m reuse_premium=1.25                 any field of Policy; durations as 30s, 5m, 2h
    offer aws/use1-az1/p5.48xlarge/spot 18.20 [on-demand=55.04] [free=4] [hazard=0.02] [age=10m] [notice=2m] [boot=1m]
    offer ... unknown                                     a pool without a price
    idle POOL n1 n2                                       nodes of ours, ready, without a job
    memory POOL [cool=20m] [interruptions=3] [exposure=10h] [why=...]
    budget default 100.00                                 dollars left to reserve; unlimited when absent
    job NAME gpus=8..32 [accelerators=H100,H200] [memory=80] [fp8] [work=6h] [deadline=10h] [priority=1] [price-max=40]
             [cost-max=100] [places=aws/*] [markets=spot] [budget=default] [avoid=POOL] [begun] [draining] [cpu]
    plan                                                  decide, and print every placement and every report
    nearest NAME                                          the nearest feasible deadline of a job
"""

from __future__ import annotations

import random
import shlex
from dataclasses import fields
from typing import Any

from dsched.providers import catalog
from dsched.scheduler.core.check import check
from dsched.scheduler.core.job import Need, Spec
from dsched.scheduler.core.market import Market, Offer, Pool, Quote
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.plan import Plan, feasible_deadline, plan
from dsched.scheduler.core.report import Line, Report, dollars, sentence
from dsched.scheduler.core.snapshot import Job, PoolMemory
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import HOUR, Charge, Instant, Millis, Moment, price, usd

NOW = Moment(wall=Instant(0), market=Instant(1_000 * HOUR))
UNITS = {"s": 1_000, "m": 60_000, "h": HOUR}


class Story:
    """The world as the story has told it so far."""

    def __init__(self) -> None:
        self.policy = Policy()
        self.question = Question(jobs=(), offers={})
        self.told: dict[str, Any] = {"jobs": (), "offers": {}, "idle": {}, "pools": {}, "room": {}, "scale": 1.0}
        self.printed: list[str] = []

    def tell(self, text: str) -> str:
        for number, raw in enumerate(text.splitlines(), 1):
            words = shlex.split(raw, comments=True)
            if not words:
                continue
            try:
                getattr(self, f"do_{words[0]}")(*words[1:])
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise ValueError(f"line {number}: {raw.strip()!r}: {error}") from error
        return "\n".join(self.printed) + "\n"

    # -- the world

    def do_clock(self, *words: str) -> None:
        self.told["scale"] = float(options(words)["scale"])

    def do_policy(self, *words: str) -> None:
        known = {field.name: field.type for field in fields(Policy)}
        given: dict[str, Any] = {key: number(known[key], value) for key, value in options(words).items()}
        self.policy = Policy(**given)

    def do_offer(self, name: str, cost: str, *words: str) -> None:
        given = options(words)
        pool = pool_of(name)
        shape = catalog.load().shape(pool.shape)
        assert shape is not None, f"{pool.shape} is not in the catalog"
        at = Instant(NOW.market - millis(given.get("age", "0s")))
        self.told["offers"][pool.id] = Offer(
            pool=pool,
            shape=shape,
            quote=None if cost == "unknown" else Quote(price=price(cost), at=at, source="story"),
            on_demand=price(given["on-demand"]) if "on-demand" in given else None,
            free=int(given["free"]) if "free" in given else None,
            hazard=float(given["hazard"]) if "hazard" in given else None,
            notice=millis(given.get("notice", "0s")),
            boot=millis(given.get("boot", "0s")),
        )

    def do_idle(self, name: str, *nodes: str) -> None:
        self.told["idle"][name] = nodes

    def do_memory(self, name: str, *words: str) -> None:
        given = options(words)
        self.told["pools"][name] = PoolMemory(
            pool=name,
            cool_until=Instant(NOW.market + millis(given.get("cool", "0s"))),
            why=given.get("why", ""),
            interruptions=int(given.get("interruptions", 0)),
            exposure=millis(given.get("exposure", "0s")),
        )

    def do_budget(self, name: str, left: str) -> None:
        self.told["room"][name] = Charge(usd(left) * HOUR)

    def do_job(self, name: str, *words: str) -> None:
        given = options(words)
        spec = Spec(
            name=name,
            run="true",
            need=need_of(given),
            duration=millis(given["work"]) if "work" in given else None,
            deadline=Instant(NOW.market + millis(given["deadline"])) if "deadline" in given else None,
            cost_max=usd(given["cost-max"]) if "cost-max" in given else None,
            priority=int(given.get("priority", 0)),
            budget=given.get("budget", "default"),
        )
        job = Job(
            id=name,
            key=name,
            spec=spec,
            state=JobState.DRAINING if "draining" in given else JobState.QUEUED,
            submitted=Moment(wall=NOW.wall, market=Instant(len(self.told["jobs"]))),
            avoid=names(given.get("avoid", "")),
            started=NOW.market if "begun" in given else None,
        )
        self.told["jobs"] = (*self.told["jobs"], job)

    # -- what is asked of the planner

    def do_plan(self) -> None:
        question = Question(**self.told)
        answer = plan(question, self.policy, now=NOW, rng=random.Random(0))
        self.printed += described(answer)
        self.printed += [f"WRONG: {finding}" for finding in check(question, answer)]

    def do_nearest(self, name: str) -> None:
        question = Question(**self.told)
        job = next(job for job in question.jobs if job.id == name)
        found = feasible_deadline(question, job, self.policy, NOW)
        if found is None:
            self.printed.append(f"{name}: no deadline can be promised")
            return
        ahead = (found.finish - NOW.market) / HOUR
        self.printed.append(
            f"{name}: done in {ahead:.1f} h at the earliest: {found.nodes} x {found.offer}, "
            f"{dollars(found.price)}/h, {dollars(found.expected)} expected"
        )


def described(answer: Plan) -> list[str]:
    """Placements in order, then each different report once."""
    out = []
    for placed in answer.placements:
        reused = f" reuse {' '.join(placed.reuse)}" if placed.reuse else ""
        bought = f" buy {placed.buy}" if placed.buy else ""
        out.append(f"{placed.job} -> {placed.nodes} x {placed.pool.id}:{reused}{bought}, {dollars(placed.price)}/h")
    shown: dict[int, list[str]] = {}
    reports: dict[int, Report] = {}
    for job, report in sorted(answer.reports.items()):
        shown.setdefault(id(report), []).append(job)
        reports[id(report)] = report
    for key, jobs in shown.items():
        out += ["", f"{', '.join(jobs)}: {reports[key].need}", f"  {reports[key].summary}"]
        out += [f"  {row(line, reports[key].chosen)}" for line in reports[key].lines]
    return out


def row(line: Line, chosen: Line | None) -> str:
    value = line.value
    if value is None:
        numbers = f"{'-':>3} {'-':>9} {'-':>6} {'-':>9} {'-':>9}"
    else:
        expected = "-" if value.expected is None else dollars(value.expected)
        useful = dollars(value.per_useful_hour)
        numbers = f"{value.gpus:>3} {dollars(value.price):>9} {value.goodput:>6.1%} {useful:>9} {expected:>9}"
    mark = {"chosen": ">", "possible": " ", "refused": "x"}[line.verdict]
    why = f"  {line.code}: {sentence(line, chosen)}" if line.code else ""
    return f"{mark} {line.offer:<42} {numbers}{why}".rstrip()


def options(words: tuple[str, ...]) -> dict[str, str]:
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def names(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def millis(text: str) -> Millis:
    return Millis(round(float(text[:-1]) * UNITS[text[-1]]))


def number(kind: object, text: str) -> float | str:
    match kind:
        case "Millis":
            return millis(text)
        case "int":
            return int(text)
        case "float":
            return float(text)
        case _:
            return text


def pool_of(name: str) -> Pool:
    provider, zone, shape, market = name.split("/")
    return Pool(provider, zone, zone, shape, Market(market))


def need_of(given: dict[str, str]) -> Need:
    least, _, most = given.get("gpus", "1").partition("..")
    return Need(
        accelerators=names(given.get("accelerators", "")),
        gpus_min=int(least),
        gpus_max=int(most or least),
        gpu_memory_gib=int(given.get("memory", 0)),
        fp8="fp8" in given,
        markets=tuple(Market(name) for name in names(given.get("markets", ""))) or tuple(Market),
        places=names(given.get("places", "")),
        price_max=price(given["price-max"]) if "price-max" in given else None,
        cpu_only="cpu" in given,
    )
