"""The columns of a bill and of budgets."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from dsched.scheduler.core.units import Moment
from dsched.scheduler.view import format as f
from dsched.scheduler.view.column import Column, Tone
from dsched.scheduler.view.market import amount
from dsched.scheduler.view.safe import show
from dsched.scheduler.wire.api import BillLine, Budget

BILL: Final[tuple[Column[BillLine], ...]] = (
    Column(name="node", title="NODE", width=12, priority=2, cell=lambda b, _: show(b["node"]), key=lambda b: b["node"]),
    Column(
        name="where", title="WHERE", width=24, flex=True,
        cell=lambda b, _: f.place(b["where"]), key=lambda b: b["where"],
    ),
    Column(name="kind", title="KIND", width=8, priority=3, cell=lambda b, _: show(b["kind"]), key=lambda b: b["kind"]),
    Column(
        name="start", title="FROM", width=12, priority=4,
        cell=lambda b, now: f.clock(b["start"], now.market), key=lambda b: b["start"],
    ),
    Column(
        name="lasted", title="LASTED", width=6, align="right", priority=1,
        cell=lambda b, _: f.duration((b["end"] - b["start"]) / 1000), key=lambda b: b["end"] - b["start"],
    ),
    Column(
        name="rate", title="$/H", width=7, align="right",
        cell=lambda b, _: f.money(b["rate"]), key=lambda b: Decimal(b["rate"]),
    ),
    Column(
        name="owed", title="PAID", width=9, align="right",
        cell=lambda b, _: f.money(b["owed"]), key=lambda b: Decimal(b["owed"]), tone=lambda b: "strong",
    ),
    Column(
        name="baseline", title="ON-DEMAND", width=9, align="right", priority=2,
        cell=lambda b, _: f.money(b["baseline"]), key=lambda b: amount(b["baseline"]),
    ),
    Column(
        name="quote_age", title="QUOTED", width=6, align="right", priority=6,
        cell=lambda b, _: f.age(b["quote_age_s"]), key=lambda b: b["quote_age_s"],
    ),
    Column(
        name="source", title="SOURCE", width=14, flex=True, priority=5,
        cell=lambda b, _: show(b["source"]), key=lambda b: b["source"],
    ),
)  # fmt: skip


def budget_state(budget: Budget) -> str:
    """ "spent" at the limit, "warn" from 80 %, else "ok"."""
    if budget["exhausted"]:
        return "spent"
    return "warn" if (budget["used"] or 0) >= 0.80 else "ok"


def _used(budget: Budget, now: Moment) -> str:
    return f.UNKNOWN if budget["used"] is None else f"{f.bar(budget['used'], 10)} {f.percent(budget['used']):>4}"


def _tone(budget: Budget) -> Tone:
    return f.tone(budget_state(budget))


BUDGETS: Final[tuple[Column[Budget], ...]] = (
    Column(
        name="budget", title="BUDGET", width=12, flex=True,
        cell=lambda b, _: show(b["name"]), key=lambda b: b["name"],
    ),
    Column(
        name="state", title="STATE", width=7, priority=1,
        cell=lambda b, _: f.state(budget_state(b)), key=budget_state, tone=_tone,
    ),
    Column(
        name="limit", title="LIMIT", width=10, align="right",
        cell=lambda b, _: "none" if b["limit"] is None else f.money(b["limit"]), key=lambda b: amount(b["limit"]),
    ),
    Column(
        name="spent", title="SPENT", width=10, align="right",
        cell=lambda b, _: f.money(b["spent"]), key=lambda b: Decimal(b["spent"]),
    ),
    Column(
        name="reserved", title="RESERVED", width=9, align="right", priority=2,
        cell=lambda b, _: f.money(b["reserved"]), key=lambda b: Decimal(b["reserved"]),
    ),
    Column(
        name="left", title="LEFT", width=10, align="right", priority=1,
        cell=lambda b, _: f.money(b["left"]), key=lambda b: amount(b["left"]),
    ),
    Column(
        name="used", title="USED", width=15, align="right", priority=3,
        cell=_used, key=lambda b: b["used"], tone=_tone,
    ),
    Column(
        name="fired", title="ALERTED", width=11, priority=4,
        cell=lambda b, _: " ".join(f"{p}%" for p in b["fired"]) or f.UNKNOWN,
        key=lambda b: max(b["fired"], default=None),
    ),
)  # fmt: skip
