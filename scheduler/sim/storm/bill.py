"""What the machines of a storm really cost, reckoned from their lives and the prices that were told: the judge's bill.

It shares no line with the core's ledger. The rules are the contract's: a machine is paid from its launch to its end, a
minute at least, at the price that was known when it was planned and, once it is known to live, at each newer one from
when that was observed; an end that nobody ever tells is the end of the lease.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from dsched.scheduler.core.event import Event

MINIMUM = 60_000


class Life(NamedTuple):
    """One machine: its pool, when its launch was planned, its true ends, and when the core learned of it."""

    node: str
    pool: str
    planned: int
    launched: int
    known: int
    ended: int


def cost(life: Life, told: Sequence[tuple[int, int]]) -> int:
    """Price x time of one life; `told` is its pool's history of (instant, price)."""
    end = max(life.ended, life.launched + MINIMUM)
    steps = [
        (life.launched, _at(told, life.planned)),
        (max(life.launched, _last(told, life.known)), _at(told, life.known)),
    ]
    steps += [(at, price) for at, price in told if at > life.known]
    last = [(at, price) for at, price in steps if at <= life.ended][-1][1]
    steps = [(at, price) for at, price in steps if at < life.ended]
    edges = [at for at, _ in steps] + [life.ended]
    owed = sum(price * (until - at) for (at, price), until in zip(steps, edges[1:], strict=True))
    return owed + last * (end - life.ended)


def _at(told: Sequence[tuple[int, int]], instant: int) -> int:
    return [price for at, price in told if at <= instant][-1]


def _last(told: Sequence[tuple[int, int]], instant: int) -> int:
    return [at for at, _ in told if at <= instant][-1]


def entries(log: Iterable[Event]) -> list[dict[str, Any]]:
    return [dict(change.fields) for event in log for change in event.changes if change.table == "ledger"]


def complaints(lives: Iterable[Life], told: dict[str, list[tuple[int, int]]], log: Sequence[Event]) -> list[str]:
    """Everything in which the ledger differs from the truth."""
    booked = defaultdict(list)
    for entry in entries(log):
        if entry["kind"] != "orphan":  # of machines that no row knew: nobody reckons their prices beside the core
            booked[entry["node"]].append(entry)
    wrong = []
    for life in lives:
        mine = booked.pop(life.node, [])
        owed, true = sum(entry["owed"] for entry in mine), cost(life, told[life.pool])
        if owed != true:
            wrong.append(f"{life.node} was booked {owed}, but cost {true}: {life}")
        end = max(life.ended, life.launched + MINIMUM)
        if (covered := _covered(mine)) != [(life.launched, end)]:
            wrong.append(f"{life.node} lived {life.launched}..{end}, booked are {covered}")
    wrong += [f"{node} was booked and never lived" for node in booked]
    return wrong


def _covered(mine: Iterable[dict[str, Any]]) -> list[tuple[int, int]]:
    """The time that is booked once; any other coverage is shown as a stretch of no length."""
    edges: Counter[int] = Counter()
    for entry in mine:
        sign = -1 if entry["kind"] == "correction" else 1
        edges[entry["start"]] += sign
        edges[entry["end"]] -= sign
    stretches, depth, began = [], 0, 0
    for at in sorted(edge for edge, change in edges.items() if change):
        before, depth = depth, depth + edges[at]
        if depth == 1 and before == 0:
            began = at
        elif depth == 0 and before == 1:
            stretches.append((began, at))
        else:
            stretches.append((at, at))
    return stretches


def spent(log: Iterable[Event], field: str) -> Counter[str]:
    """The ledger's sum per job or budget."""
    sums: Counter[str] = Counter()
    for entry in entries(log):
        sums[entry[field]] += entry["owed"]
    return sums
