"""What a placement bench says, as lines for people and as JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from bench.parts.placing import PEERS, POLICIES, Played, Row
from dsched.scheduler.core.deadline.cheapest import HOUR
from dsched.scheduler.sim.score import Cell, interval, loss, mean_over, saving, tail_over, worst_loss
from dsched.scheduler.sim.sets import CHANGEOVERS, SLACKS

FIRST_CHOICE = "slack"  # whose figures stand for the run, where it was played


def report(played: Played) -> Iterator[str]:
    names = [name for name in POLICIES if any(cell.policy == name for cell in played.cells)]
    jobs = sum(len(cell.cost) for cell in played.cells if cell.policy == names[0]) if names else 0
    cells = sum(cell.policy == names[0] for cell in played.cells) if names else 0
    yield f"{cells} cells, {jobs} jobs, seed {played.plan.seed}, {played.plan.jobs} jobs a cell; {played.plan.traces}"
    yield "a ratio is the sum of costs over that of exact optima, a mean is over cells; 95 %: blocks of zone and week"
    for line in played.left_out:
        yield f"left out: {line}"
    for name, world in played.worlds.items():
        if world["lower_bounds"]:
            yield f"{name}: the optimum is a lower bound at (slack, changeover) {world['lower_bounds']}"
    for single, title in ((True, "single zones at normalised prices"), (False, "sets of zones at their own prices")):
        some = [cell for cell in played.cells if cell.single is single]
        if some:
            yield ""
            yield title
            yield from _policies(some, names, played.plan.seed)
            yield ""
            yield from _pivot(some, names)
    if played.hardships:
        yield ""
        yield "in a less kind world, at the middle changeover; cost over the optimum of the kind one"
        for it in played.hardships:
            yield f"  {it.kind:<48} {it.set:<20} {it.policy:<6} {it.ratio:6.3f}  {it.misses} of {it.jobs} missed"
    yield ""
    yield from _tail(played, names)


def _policies(cells: Sequence[Cell], names: Sequence[str], seed: int) -> Iterator[str]:
    yield (
        f"  {'policy':<12} {'mean':>6}  {'95 %':^13} {'p90':>6} {'misses':>6} {'worst cell':>10} {'saved':>6}"
        f" {'launches':>8} {'egress':>7} {'12 -> 3 min':>11}"
    )
    peers = [cell for cell in cells if cell.policy in PEERS]
    for name in names:
        some = [cell for cell in cells if cell.policy == name]
        low, high = interval(some, seed)
        worst, _ = worst_loss(some, peers)
        launches = sum(cell.launches.sum() for cell in some) / sum(len(cell.cost) for cell in some)
        egress = sum(cell.egress.sum() for cell in some) / sum(cell.cost.sum() for cell in some)
        yield (
            f"  {name:<12} {mean_over(some):6.3f}  {low:6.3f}-{high:6.3f} {tail_over(some):6.3f}"
            f" {sum(cell.misses for cell in some):6d} {_percent(worst):>10} {saving(some):6.1%} {launches:8.1f}"
            f" {egress:7.2%} {_percent(delay_gain(some)):>11}"
        )
    some = [cell for cell in cells if cell.policy == names[0]]
    optimum = 1 - sum(cell.optimum.sum() for cell in some) / sum(cell.on_demand.sum() for cell in some)
    gain = _percent(_optimum_gain(some))
    yield f"  {'optimum':<12} {1:6.3f}  {'':13} {1:6.3f} {0:6d} {'':>10} {optimum:6.1%} {'':>8} {'':>7} {gain:>11}"


def _percent(share: float) -> str:
    return "" if math.isnan(share) else f"{share:+.1%}"


def delay_gain(cells: Sequence[Cell]) -> float:
    """How much cheaper the same jobs become with the shortest changeover instead of the longest: -0.1 is 10 % less."""
    short, long = (sum(c.cost.sum() for c in cells if c.changeover == at) for at in (CHANGEOVERS[0], CHANGEOVERS[-1]))
    return float(short / long - 1) if long and short else math.nan


def _optimum_gain(cells: Sequence[Cell]) -> float:
    short, long = (
        sum(c.optimum.sum() for c in cells if c.changeover == at) for at in (CHANGEOVERS[0], CHANGEOVERS[-1])
    )
    return float(short / long - 1) if long and short else math.nan


def _pivot(cells: Sequence[Cell], names: Sequence[str]) -> Iterator[str]:
    """Ratios by set, by slack, by changeover and by price ratio."""
    width = max(24, *(len(cell.set) for cell in cells))
    yield f"  {'ratio to the optimum':<{width}} " + " ".join(f"{name:>11}" for name in names)
    groups = [(name, lambda cell, name=name: cell.set == name) for name in dict.fromkeys(cell.set for cell in cells)]
    groups += [(f"slack {slack}", lambda cell, slack=slack: cell.slack == slack) for slack in SLACKS]
    groups += [(f"changeover {at / HOUR:.2f} h", lambda cell, at=at: cell.changeover == at) for at in CHANGEOVERS]
    ratios = sorted({cell.ratio for cell in cells})
    if len(ratios) > 1:
        groups += [(f"price ratio {ratio}", lambda cell, ratio=ratio: cell.ratio == ratio) for ratio in ratios]
    for title, belongs in groups:
        some = [[cell for cell in cells if cell.policy == name and belongs(cell)] for name in names]
        if all(some):
            yield f"  {title:<{width}} " + " ".join(f"{mean_over(one):11.3f}" for one in some)


def _tail(played: Played, names: Sequence[str]) -> Iterator[str]:
    for key, value in summary(played, _headline(played)).items():
        yield f"{key}: {value:.4f}" if isinstance(value, float) else f"{key}: {value}"
    head = [cell for cell in played.cells if cell.policy == _headline(played)]
    _, where = worst_loss(head, [cell for cell in played.cells if cell.policy in PEERS])
    if where:
        hours, ratio = where.changeover / HOUR, where.ratio or "own"
        yield f"worst cell: {where.set}, slack {where.slack}, changeover {hours:.2f} h, price ratio {ratio}"
    parts = ", ".join(f"{part} {seconds:.0f}" for part, seconds in sorted(played.seconds.items(), key=lambda i: -i[1]))
    yield f"CPU seconds: {parts}"
    yield f"wall: {played.wall:.0f} s"


def _headline(played: Played) -> str:
    if played.plan.policies and FIRST_CHOICE not in played.plan.policies:
        return played.plan.policies[0]
    return FIRST_CHOICE


def summary(played: Played, name: str) -> dict[str, float | int | None]:
    """The figures of one policy; None where no set of that kind was played."""
    mine = [cell for cell in played.cells if cell.policy == name]
    single, multi = ([cell for cell in mine if cell.single is kind] for kind in (True, False))
    worst, _ = worst_loss(mine, [cell for cell in played.cells if cell.policy in PEERS])
    return {
        "single_mean": mean_over(single) if single else None,
        "multi_mean": mean_over(multi) if multi else None,
        "multi_p90": tail_over(multi) if multi else None,
        "misses": sum(cell.misses for cell in mine) + sum(it.misses for it in played.hardships if it.policy == name),
        "worst_cell_loss": None if math.isnan(worst) else worst,
        "decision_ms": played.decision_ms.get(name),
    }


def as_json(played: Played, *, per_job: bool) -> dict[str, object]:
    """`summary` is that of the slack policy, or of the first that was asked for without it; `policies` has all."""
    names = list(dict.fromkeys(cell.policy for cell in played.cells))
    peers = [cell for cell in played.cells if cell.policy in PEERS]
    out: dict[str, object] = {
        "policy": _headline(played),
        "summary": summary(played, _headline(played)),
        "policies": {name: summary(played, name) for name in names},
        "seed": played.plan.seed,
        "sets": played.worlds,
        "left_out": played.left_out,
        "cpu_seconds": played.seconds,
        "wall_seconds": played.wall,
        "mishaps": [asdict(it) for it in played.hardships],
        "cells": [_cell(cell, peers) for cell in played.cells],
    }
    if per_job:
        out["jobs"] = [job for row in played.rows for job in _jobs(row, played.cells)]
    return out


def _cell(cell: Cell, peers: Sequence[Cell]) -> dict[str, object]:
    return {
        "set": cell.set,
        "slack": cell.slack,
        "changeover_h": cell.changeover / HOUR,
        "price_ratio": cell.ratio or None,
        "policy": cell.policy,
        "jobs": len(cell.cost),
        "cost": float(cell.cost.sum()),
        "optimum": float(cell.optimum.sum()),
        "on_demand": float(cell.on_demand.sum()),
        "p90": tail_over([cell]),
        "misses": cell.misses,
        "launches": float(cell.launches.mean()),
        "egress": float(cell.egress.sum()),
        "loss": loss(cell, [peer for peer in peers if peer.key == cell.key]),
    }


def _jobs(row: Row, cells: Sequence[Cell]) -> Iterator[dict[str, object]]:
    mine = [cell for cell in cells if cell.key == row.cell]
    for j, start in enumerate(row.start):
        yield {
            "set": row.cell[0],
            "slack": row.cell[1],
            "changeover_h": row.cell[2] / HOUR,
            "price_ratio": row.cell[3] or None,
            "zones": list(row.zones[j]),
            "gang": row.gang,
            "gap_s": row.gap,
            "work_s": row.work,
            "start_tick": int(start),
            "first_tick": list(row.first[j]),  # of each zone's trace, where the set's tick 0 is
            "ticks": row.ticks,
            "optimum": float(mine[0].optimum[j]),
            "cost": {cell.policy: float(cell.cost[j]) for cell in mine},
        }
