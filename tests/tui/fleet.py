"""A made-up fleet: rows as the daemon would send them, the same on every run."""

from __future__ import annotations

import math
import random
from typing import Any

from dsched.scheduler.wire.api import Attempt, Budget, Event, Feed, Health, Job, Line, Money, Offer, Plan

WALL = 1_795_183_331_000  # 2026-11-20 14:02:11 UTC
MARKET = WALL + 86_400_000
HOUR = 3_600_000

PLACES = (
    ("aws", "us-east-2", "use2-az2", "p5.48xlarge", "H100", 8, "17.92", "55.04"),
    ("aws", "us-east-1", "use1-az1", "p5.48xlarge", "H100", 8, "19.31", "55.04"),
    ("aws", "us-west-2", "usw2-az3", "p4d.24xlarge", "A100", 8, "9.42", "21.96"),
    ("aws", "eu-west-1", "euw1-az1", "g6e.12xlarge", "L40S", 4, "3.91", "10.49"),
    ("gcp", "us-central1", "us-central1-a", "a3-highgpu-8g", "H100", 8, "25.10", "88.49"),
    ("gcp", "us-east4", "us-east4-b", "a2-ultragpu-8g", "A100", 8, "11.75", "40.55"),
)
NAMES = ("moe-pretrain", "fp8-sft", "dpo", "distill", "batch-infer", "eval", "curriculum", "prune-qat")
USERS = ("ana", "bo", "chen", "dara", "eli")
STATES = ("running",) * 12 + ("queued",) * 4 + ("draining", "starting", "paused", "held", "failed", "succeeded")


def pool(place: int, market: str = "spot") -> str:
    provider, _, zone, shape, *_ = PLACES[place]
    return f"{provider}/{zone}/{shape}/{market}"


def job(number: int = 12, **fields: Any) -> Job:
    """A running job of two thirds done; `fields` override."""
    row: Job = {
        "id": f"j{number}", "name": "moe-ft", "user": "ana", "state": "running", "reason": "", "where": pool(0),
        "next": "", "shape": "p5.48xlarge", "accelerator": "H100", "gpus": 8, "nodes": 1, "generation": 4,
        "priority": 0, "burn": "17.92", "spent": "526.23", "baseline": "1590.33", "saved": "1064.10", "step": 48_210,
        "steps": 66_000, "checkpoint_step": 48_120, "loss": 1.842, "tokens_per_s": 61_200.0, "eta_s": 14_700.0,
        "deadline": MARKET + 6 * HOUR, "slack_s": 4_320.0, "moves": 3, "interruptions": 2, "failures": 0,
        "submitted": MARKET - 26 * HOUR, "started": MARKET - 25 * HOUR, "ended": None, "exit_code": None,
        "decision": "d-8f31c2", "notice_wall": None,
    }  # fmt: skip
    row.update(fields)  # type: ignore[typeddict-item]
    return row


def jobs(count: int) -> list[Job]:
    dice = random.Random(7)
    return [_some_job(100 + n, dice) for n in range(count)]


def _some_job(number: int, dice: random.Random) -> Job:
    state = dice.choice(STATES)
    at = dice.randrange(len(PLACES))
    _, _, _, shape, accelerator, gpus, price, on_demand = PLACES[at]
    here = state in ("running", "draining", "starting")
    hours = 0.0 if state == "queued" else dice.random() * 60
    spent, baseline = float(price) * hours, float(on_demand) * hours
    done = 1.0 if state == "succeeded" else 0.0 if state == "queued" else dice.random()
    moves = dice.choice((0, 0, 0, 1, 1, 2, 5))
    running = state == "running"
    return job(
        number,
        name=f"{dice.choice(NAMES)}-{dice.randrange(16**4):04x}", user=dice.choice(USERS), state=state,
        where=pool(at) if here else "", shape=shape, accelerator=accelerator, gpus=gpus, burn=price if here else "0.00",
        spent=f"{spent:.2f}", baseline=f"{baseline:.2f}", saved=f"{baseline - spent:.2f}",
        step=int(66_000 * done), checkpoint_step=max(0, int(66_000 * done) - 90),
        eta_s=dice.random() * 90_000 if running else None, tokens_per_s=61_200.0 if running else None,
        slack_s=dice.uniform(-2_000, 40_000) if running else None, moves=moves, interruptions=min(moves, 2),
        submitted=MARKET - int(hours * HOUR) - HOUR, loss=1.8 if running else None,
        reason="no offer fits: 8 x B200 in us-*" if state == "held" else "exit 1, five times without progress"
        if state == "failed" else "",
    )  # fmt: skip


def offer(place: int, market: str = "spot", **fields: Any) -> Offer:
    provider, region, zone, shape, accelerator, gpus, spot, on_demand = PLACES[place]
    price = {"spot": spot, "on-demand": on_demand, "reserved": f"{float(on_demand) * 0.58:.2f}"}[market]
    wave = [float(price) * (1 + 0.2 * math.sin(i / 3 + place)) if market == "spot" else float(price) for i in range(24)]
    row: Offer = {
        "id": pool(place, market), "provider": provider, "region": region, "zone": zone, "shape": shape,
        "accelerator": accelerator, "market": market, "gpus": gpus, "price": price, "on_demand": on_demand,
        "per_gpu": f"{float(price) / gpus:.2f}", "age_s": 41.0, "stale": False, "source": "replay", "free": 4,
        "hazard": 0.02 * (place + 1) if market == "spot" else 0.0, "cool_s": None, "cool_why": "", "history": wave,
    }  # fmt: skip
    row.update(fields)  # type: ignore[typeddict-item]
    return row


def offers() -> list[Offer]:
    rows = [offer(p, m) for m in ("spot", "reserved", "on-demand") for p in range(len(PLACES))]
    rows[1] |= {"cool_s": 480.0, "cool_why": "sold out"}  # type: ignore[typeddict-item]
    rows[5] |= {"free": 0}  # type: ignore[typeddict-item]
    return rows


def event(seq: int, kind: str = "job.placed", why: str = "", **fields: Any) -> Event:
    row: Event = {
        "seq": seq, "wall": WALL - 1_000, "market": MARKET - 1_000, "kind": kind, "job": "j12", "node": "", "why": why,
        "data": {},
    }  # fmt: skip
    row.update(fields)  # type: ignore[typeddict-item]
    return row


def events() -> list[Event]:
    told = (
        ("job.submitted", "ana submitted moe-ft"),
        ("job.placed", "aws/use1-az1 p5.48xlarge spot: 12% under the next, done 1 h 12 min before the deadline"),
        ("job.started", "8 ranks run"),
        ("node.notice", "the cloud takes n7.0 back in 120 s"),
        ("job.saved", "step 48,120 in 9.4 s"),
        ("node.gone", "interrupted by the cloud 118 s after its notice"),
        ("job.placed", "aws/use2-az2 p5.48xlarge spot: the cheapest to finish, $81.90"),
        ("job.started", "8 ranks run; back after 41 s, 12 steps redone"),
    )
    return [event(i + 1, kind, why, wall=WALL - (8 - i) * 37_000) for i, (kind, why) in enumerate(told)]


def health(rows: list[Job] | None = None, **fields: Any) -> Health:
    counted: dict[str, int] = {}
    for row in rows or ():
        counted[row["state"]] = counted.get(row["state"], 0) + 1
    said: Health = {
        "version": "0.1.0", "pid": 4242, "wall": WALL, "market": MARKET, "scale": 1.0, "seq": 8, "jobs": counted,
        "providers": {
            "aws": {"ok": True, "why": "", "prices_age_s": 41.0, "nodes": 12},
            "gcp": {"ok": True, "why": "", "prices_age_s": 12.0, "nodes": 7},
        },
        "market_note": "replayed market, 600x", "burn": f"{sum(float(r['burn']) for r in rows or ()):.2f}",
        "ready": True,
    }  # fmt: skip
    said.update(fields)  # type: ignore[typeddict-item]
    return said


def feed(rows: list[Job] | None = None, **fields: Any) -> Feed:
    """A message of the feed; as a snapshot when it carries everything."""
    said: Feed = {
        "seq": 8, "jobs": rows or [], "gone": [], "offers": [], "events": [], "health": health(rows),
    }  # fmt: skip
    said.update(fields)  # type: ignore[typeddict-item]
    return said


def snapshot(count: int = 40) -> Feed:
    rows = [job(), *jobs(count)]
    return feed(rows, offers=offers(), events=events())


def budget(**fields: Any) -> Budget:
    row: Budget = {
        "name": "team-llm", "limit": "80000.00", "spent": "48212.00", "reserved": "310.00", "left": "31478.00",
        "used": 0.6026, "exhausted": False, "fired": [50],
    }  # fmt: skip
    row.update(fields)  # type: ignore[typeddict-item]
    return row


def money(**fields: Any) -> Money:
    row: Money = {
        "burn": "1185.20", "spent": "48212.00", "baseline": "159615.40", "saved": "111403.40", "reserved": "310.00",
        "budgets": [budget()],
    }  # fmt: skip
    row.update(fields)  # type: ignore[typeddict-item]
    return row


def attempts() -> list[Attempt]:
    ends = ("interrupted", "drained: price", "interrupted", "")
    return [
        {
            "generation": i + 1, "where": pool(i % 3), "nodes": [f"n{i}.0"], "world_size": 8,
            "decided": MARKET - (25 - 6 * i) * HOUR, "running": MARKET - (25 - 6 * i) * HOUR + 41_000,
            "ended": MARKET - (19 - 6 * i) * HOUR if how else None, "outcome": how,
            "first_step": 16_000 * i, "last_step": 16_000 * (i + 1),
        }
        for i, how in enumerate(ends)
    ]  # fmt: skip


def line(place: int, **fields: Any) -> Line:
    _, _, _, shape, accelerator, gpus, price, _ = PLACES[place]
    row: Line = {
        "offer": pool(place), "shape": shape, "accelerator": accelerator, "market": "spot", "nodes": 1, "gpus": gpus,
        "price": price, "off": 0.67, "hazard": 0.02, "goodput": 0.97, "per_useful_hour": f"{float(price) / 0.97:.2f}",
        "hours": 4.1, "compute": "73.50", "redo": "5.20", "move": "3.20", "expected": "81.90",
        "finish": MARKET + 4 * HOUR, "verdict": "possible", "code": "dearer", "why": "dearer to finish",
    }  # fmt: skip
    row.update(fields)  # type: ignore[typeddict-item]
    return row


def plan(**fields: Any) -> Plan:
    row: Plan = {
        "id": "d-8f31c2", "job": "j12", "name": "moe-ft", "at": MARKET - HOUR, "policy": "cheapest to finish",
        "need": "8..32 x H100, fp8", "chosen": pool(0),
        "summary": "aws/use2-az2 p5.48xlarge spot is the cheapest to finish: $81.90, 1 h 12 min before the deadline",
        "lines": [
            line(0, verdict="chosen", code="", why=""),
            line(1, expected="93.40", redo="14.20", why="14% dearer: interrupted too often"),
            line(4, expected="118.70", move="11.30", why="45% dearer: 814 GiB of checkpoint leave AWS"),
            line(2, verdict="refused", code="no-fp8", expected="96.10", why="A100 has no FP8"),
        ],
        "refused": {"no-fp8": 1, "cooling": 5},
    }  # fmt: skip
    row.update(fields)  # type: ignore[typeddict-item]
    return row
