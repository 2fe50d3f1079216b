"""A plan beside the same plan in a changed world: what is chosen, what it costs, and what becomes of every offer."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final, NamedTuple

from dsched.scheduler.core.units import Moment
from dsched.scheduler.view import format as f
from dsched.scheduler.view.column import Column, Tone
from dsched.scheduler.view.market import amount
from dsched.scheduler.view.safe import show
from dsched.scheduler.view.table import paint, table
from dsched.scheduler.wire.api import Line, Plan

_MARKS: Final = {"chosen": "▶", "refused": "✗"}


class Both(NamedTuple):
    """One offer, now and then."""

    offer: str
    now: Line | None
    then: Line | None


class Measure(NamedTuple):
    """One figure of what is chosen, now and then."""

    title: str
    now: str
    then: str


def both(made: Plan) -> list[Both]:
    """Every offer of either plan, in the order of what would be."""
    then = made["what_if"]["plan"]
    before, after = ({line["offer"]: line for line in plan["lines"]} for plan in (made, then))
    return [Both(id, before.get(id), after.get(id)) for id in (*after, *(id for id in before if id not in after))]


def whatif_text(made: Plan, now: Moment, *, most: int, width: int | None, colour: bool) -> list[str]:
    told, rows = made["what_if"], both(made)
    text = [f"{paint(show(made['name']), 'strong', colour=colour)}  {show(made['need'])}"]
    text += [f"  what if  {show(change)}" for change in told["changes"]]
    text += ["", *table(_MEASURES, _measures(made, told["plan"], now), now, width=width, colour=colour), ""]
    text += [*table(both_columns(), rows[:most], now, width=width, colour=colour), ""]
    for title, plan in (("now    ", made), ("what if", told["plan"])):
        mark = paint("▶", "good", colour=colour) if plan["chosen"] else paint("✗", "bad", colour=colour)
        text.append(f"{mark} {title}  {show(plan['summary'], 500)}")
    if hidden := len(rows) - len(rows[:most]):
        text.append(f"  {hidden} more: -n {len(rows)} shows them")
    return text


def both_columns() -> tuple[Column[Both], ...]:
    """Offer, then price, expected cost and verdict of both worlds."""
    return (
        Column(
            name="offer", title="OFFER", width=24, flex=True,
            cell=lambda x, _: f.place(x.offer), key=lambda x: x.offer,
        ),
        _mark("now", "NOW", lambda x: x.now),
        _money("price", "$/H", 0, lambda x: x.now, "price"),
        _money("expected", "EXPECTED", 1, lambda x: x.now, "expected"),
        _mark("then", "IF", lambda x: x.then),
        _money("then_price", "$/H", 0, lambda x: x.then, "price"),
        _money("then_expected", "EXPECTED", 1, lambda x: x.then, "expected"),
        Column(
            name="why", title="WHY", width=12, flex=True, priority=2,
            cell=lambda x, _: show(x.then["why"]) if x.then else "", key=lambda x: x.then["code"] if x.then else None,
        ),
    )  # fmt: skip


def _mark(name: str, title: str, side: Callable[[Both], Line | None]) -> Column[Both]:
    def verdict(row: Both) -> str:
        line = side(row)
        return line["verdict"] if line else ""

    def tone(row: Both) -> Tone:
        return "good" if verdict(row) == "chosen" else "bad" if verdict(row) == "refused" else ""

    return Column(
        name=name, title=title, width=3, tone=tone, key=verdict,
        cell=lambda row, _: _MARKS.get(verdict(row), ""),
    )  # fmt: skip


def _money(name: str, title: str, priority: int, side: Callable[[Both], Line | None], read: str) -> Column[Both]:
    def told(row: Both) -> str | None:
        line = side(row)
        return None if line is None else line.get(read)  # type: ignore[return-value]  # one of the money fields

    return Column(
        name=name, title=title, width=8, align="right", priority=priority,
        cell=lambda row, _: f.money(told(row)), key=lambda row: amount(told(row)),
    )  # fmt: skip


def _measures(made: Plan, then: Plan, now: Moment) -> list[Measure]:
    return [Measure(title, read(made, now), read(then, now)) for title, read in _READ]


def _chosen(plan: Plan) -> Line | None:
    return next((line for line in plan["lines"] if line["verdict"] == "chosen"), None)


def _of_chosen(read: Callable[[Line, Moment], str]) -> Callable[[Plan, Moment], str]:
    def cell(plan: Plan, now: Moment) -> str:
        line = _chosen(plan)
        return f.UNKNOWN if line is None else read(line, now)

    return cell


def _place(plan: Plan, now: Moment) -> str:
    line = _chosen(plan)
    return f.place(line["offer"]) if line else "waits" if plan.get("deadline") else "nothing fits"


def _per_hour(line: Line, now: Moment) -> str:
    return f.UNKNOWN if line["price"] is None else f"{f.dollars(line['price'])}/h"


def _expected(line: Line, now: Moment) -> str:
    return f.UNKNOWN if line["expected"] is None else f.dollars(Decimal(line["expected"]))


_READ: Final[tuple[tuple[str, Callable[[Plan, Moment], str]], ...]] = (
    ("place", _place),
    ("gang", _of_chosen(lambda x, _: f.gpus(x["gpus"], x["accelerator"]))),
    ("price", _of_chosen(_per_hour)),
    ("expected", _of_chosen(_expected)),
    ("finish", _of_chosen(lambda x, now: f.clock(x["finish"], now.market))),
    ("interrupted per h", _of_chosen(lambda x, _: f.percent(x["hazard"]))),
)
_MEASURES: Final[tuple[Column[Measure], ...]] = (
    Column(name="what", title="", width=17, cell=lambda x, _: x.title, key=lambda x: x.title),
    Column(name="now", title="NOW", width=24, flex=True, cell=lambda x, _: x.now, key=lambda x: x.now),
    Column(
        name="then", title="WHAT IF", width=24, flex=True, cell=lambda x, _: x.then, key=lambda x: x.then,
        tone=lambda x: "strong" if x.then != x.now else "",
    ),
)  # fmt: skip
