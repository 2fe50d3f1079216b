"""The columns of offers, of a plan's lines and of nodes."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Final

from dsched.scheduler.core.units import Moment
from dsched.scheduler.view import format as f
from dsched.scheduler.view.column import Column, Key, Tone
from dsched.scheduler.view.safe import show
from dsched.scheduler.wire.api import Line, Node, Offer, Plan


def amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def offer_off(offer: Offer) -> float | None:
    """The share by which an offer is under the on-demand price of the same shape."""
    if offer["price"] is None or offer["on_demand"] is None:
        return None
    return f.saved_share(str(Decimal(offer["on_demand"]) - Decimal(offer["price"])), offer["on_demand"])


def _offer_state(offer: Offer, now: Moment) -> str:
    if offer["cool_s"]:
        return show(f"cooling {f.duration(offer['cool_s'])}: {offer['cool_why']}")
    if offer["stale"]:
        return "too old to buy by"
    return "no price" if offer["price"] is None else "sold out" if offer["free"] == 0 else ""


def _offer_tone(offer: Offer) -> Tone:
    if offer["price"] is None or offer["free"] == 0:
        return "dim"
    return "warn" if offer["cool_s"] or offer["stale"] else ""


def _history(offer: Offer, now: Moment) -> str:
    """On the scale of nothing to on-demand, so that lines of one shape compare."""
    values = offer["history"]
    return f.sparkline(values, 0.0, float(offer["on_demand"] or 0) or max(values, default=0.0))


def _history_tone(offer: Offer) -> Tone:
    """A price that never moved is no news."""
    return "dim" if len(set(offer["history"])) < 2 else ""


def _hazard_tone(hazard: float | None) -> Tone:
    return "bad" if hazard is not None and hazard >= 0.10 else ""


OFFERS: Final[tuple[Column[Offer], ...]] = (
    Column(
        name="gpu", title="GPU", width=6,
        cell=lambda o, _: f.gpus(o["gpus"], o["accelerator"]), key=lambda o: f"{o['accelerator']} {o['gpus']:4d}",
    ),
    Column(
        name="place", title="PLACE", width=16, flex=True,
        cell=lambda o, _: show(f"{o['provider']}/{o['zone']}"), key=lambda o: f"{o['provider']}/{o['zone']}",
    ),
    Column(
        name="shape", title="SHAPE", width=13, flex=True, priority=4,
        cell=lambda o, _: show(o["shape"]), key=lambda o: o["shape"],
    ),
    Column(
        name="market", title="MARKET", width=9, priority=1,
        cell=lambda o, _: show(o["market"]), key=lambda o: o["market"],
    ),
    Column(
        name="price", title="$/H", width=7, align="right",
        cell=lambda o, _: f.money(o["price"]), key=lambda o: amount(o["price"]), tone=lambda o: "strong",
    ),
    Column(
        name="per_gpu", title="$/GPU·H", width=7, align="right", priority=2,
        cell=lambda o, _: f.money(o["per_gpu"]), key=lambda o: amount(o["per_gpu"]),
    ),
    Column(
        name="off", title="OFF", width=4, align="right", priority=3,
        cell=lambda o, _: f.percent(offer_off(o) or None), key=offer_off, tone=lambda o: "good",
    ),
    Column(
        name="hazard", title="INTR/H", width=6, align="right", priority=3,
        cell=lambda o, _: f.percent(o["hazard"]), key=lambda o: o["hazard"], tone=lambda o: _hazard_tone(o["hazard"]),
    ),
    Column(
        name="free", title="FREE", width=4, align="right", priority=5,
        cell=lambda o, _: f.number(o["free"]), key=lambda o: o["free"],
    ),
    Column(
        name="history", title="24H", width=24, priority=7,
        cell=_history, key=lambda o: o["history"][-1] if o["history"] else None, tone=_history_tone,
    ),
    Column(
        name="quote_age", title="QUOTED", width=6, align="right", priority=6,
        cell=lambda o, _: f.age(o["age_s"]), key=lambda o: o["age_s"], tone=lambda o: "warn" if o["stale"] else "",
    ),
    Column(
        name="source", title="SOURCE", width=12, flex=True, wide=True, priority=9,
        cell=lambda o, _: show(o["source"]), key=lambda o: o["source"],
    ),
    Column(
        name="note", title="", width=10, flex=True, priority=1,
        cell=_offer_state, key=lambda o: o["cool_s"], tone=_offer_tone,
    ),
)  # fmt: skip


_MARKS: Final = {"chosen": "▶", "refused": "✗"}
_VERDICT_TONES: Final[dict[str, Tone]] = {"chosen": "good", "refused": "dim"}
_WHERE_TOLD: Final = {  # columns for which most plans have nothing to say
    "tokens": "tokens_per_s", "mtoken": "per_mtoken", "layout": "layout",
    "egress": "egress", "kwh": "kwh", "co2": "co2_kg",
}  # fmt: skip
_ESTIMATED: Final = frozenset({"finish", "compute", "redo", "move", "expected", "more"})


def plan_columns(plan: Plan) -> tuple[Column[Line], ...]:
    """The columns of one plan: dollars to finish where the work is known, else dollars per useful hour."""
    known = any(line["expected"] is not None for line in plan["lines"])
    hidden = {name for name in _WHERE_TOLD if not any(line.get(_WHERE_TOLD[name]) for line in plan["lines"])}
    if not known:
        hidden |= _ESTIMATED
    shown = (c for c in (*_LINES, _more(plan)) if c.name not in hidden)
    return tuple(replace(c, priority=1) if c.name == "useful" and not known else c for c in shown)


def _more(plan: Plan) -> Column[Line]:
    """By how much a line is dearer than the chosen one; only a plan as a whole knows that."""
    base = next((Decimal(x["expected"]) for x in plan["lines"] if x["verdict"] == "chosen" and x["expected"]), None)

    def share(line: Line) -> float | None:
        if not base or line["expected"] is None or line["verdict"] == "chosen":
            return None
        return float(Decimal(line["expected"]) / base - 1)

    def cell(line: Line, now: Moment) -> str:
        more = share(line)
        return "" if more is None else f"{more * 100:+.0f}%"

    return Column(name="more", title="", width=5, align="right", priority=2, cell=cell, key=share)


def _cost(name: str, title: str, width: int, priority: int, read: str, *, strong: bool = False) -> Column[Line]:
    def key(line: Line) -> Key:
        return amount(line.get(read))  # type: ignore[arg-type]  # one of the money fields, all of them str or None

    def cell(line: Line, now: Moment) -> str:
        return f.money(line.get(read))  # type: ignore[arg-type]

    return Column(
        name=name, title=title, width=width, align="right", priority=priority, cell=cell, key=key,
        tone=lambda x: "strong" if strong and x["verdict"] == "chosen" else "",
    )  # fmt: skip


_LINES: Final[tuple[Column[Line], ...]] = (
    Column(
        name="verdict", title="", width=1,
        cell=lambda x, _: _MARKS.get(x["verdict"], ""), key=lambda x: x["verdict"],
        tone=lambda x: "bad" if x["verdict"] == "refused" else "good",
    ),
    Column(
        name="offer", title="OFFER", width=24, flex=True,
        cell=lambda x, _: f.place(x["offer"]), key=lambda x: x["offer"],
        tone=lambda x: _VERDICT_TONES.get(x["verdict"], ""),
    ),
    Column(
        name="gpus", title="GPUS", width=7, align="right", priority=3,
        cell=lambda x, _: f.gpus(x["gpus"], x["accelerator"]) if x["nodes"] else f.UNKNOWN, key=lambda x: x["gpus"],
    ),
    Column(
        name="nodes", title="NODES", width=5, align="right", wide=True, priority=8,
        cell=lambda x, _: str(x["nodes"]), key=lambda x: x["nodes"],
    ),
    _cost("price", "$/H", 7, 0, "price"),
    Column(
        name="off", title="OFF", width=4, align="right", priority=5,
        cell=lambda x, _: f.percent(x["off"] or None), key=lambda x: x["off"],
    ),
    Column(
        name="hazard", title="INTR/H", width=6, align="right", priority=4,
        cell=lambda x, _: f.percent(x["hazard"]), key=lambda x: x["hazard"], tone=lambda x: _hazard_tone(x["hazard"]),
    ),
    Column(
        name="goodput", title="USEFUL", width=6, align="right", wide=True, priority=9,
        cell=lambda x, _: f.percent(x["goodput"]), key=lambda x: x["goodput"],
    ),
    Column(
        name="speed", title="SPEED", width=6, align="right", priority=7,
        cell=lambda x, _: f.number(x.get("speed"), 2), key=lambda x: x.get("speed"),
    ),
    Column(
        name="tokens", title="TOK/S", width=7, align="right", priority=6,
        cell=lambda x, _: f.short(x.get("tokens_per_s")), key=lambda x: x.get("tokens_per_s"),
    ),
    _cost("useful", "$/USEFUL H", 10, 8, "per_useful_hour"),
    _cost("mtoken", "$/MTOK", 7, 1, "per_mtoken"),
    Column(
        name="finish", title="FINISH", width=12, align="right", priority=2,
        cell=lambda x, now: f.clock(x["finish"], now.market), key=lambda x: x["finish"],
    ),
    _cost("compute", "COMPUTE", 8, 6, "compute"),
    _cost("redo", "REDO", 7, 6, "redo"),
    _cost("move", "MOVE", 7, 6, "move"),
    _cost("egress", "EGRESS", 7, 6, "egress"),
    Column(
        name="wait", title="WAIT", width=6, align="right", priority=9,
        cell=lambda x, _: f.duration(x.get("wait_s")), key=lambda x: x.get("wait_s"),
    ),
    Column(
        name="kwh", title="KWH", width=6, align="right", wide=True, priority=10,
        cell=lambda x, _: f.short(x.get("kwh")), key=lambda x: x.get("kwh"),
    ),
    Column(
        name="co2", title="CO2 KG", width=6, align="right", wide=True, priority=10,
        cell=lambda x, _: f.short(x.get("co2_kg")), key=lambda x: x.get("co2_kg"),
    ),
    _cost("expected", "EXPECTED", 9, 0, "expected", strong=True),
    Column(
        name="layout", title="LAYOUT", width=14, flex=True, priority=8,
        cell=lambda x, _: show(x.get("layout", "")), key=lambda x: x.get("layout"),
    ),
    Column(
        name="why", title="WHY", width=12, flex=True, priority=1,
        cell=lambda x, _: show(x["why"]), key=lambda x: x["code"], tone=lambda x: _VERDICT_TONES.get(x["verdict"], ""),
    ),
)  # fmt: skip


def _notice(node: Node, now: Moment) -> str:
    at = node["notice_wall"]
    return "" if at is None else f"taken in {f.duration(max(0, at - now.wall) / 1000)}"


NODES: Final[tuple[Column[Node], ...]] = (
    Column(name="node", title="NODE", width=12, cell=lambda n, _: show(n["id"]), key=lambda n: n["id"]),
    Column(
        name="state", title="STATE", width=11,
        cell=lambda n, _: f.state(n["state"]), key=lambda n: n["state"], tone=lambda n: f.tone(n["state"]),
    ),
    Column(
        name="where", title="WHERE", width=24, flex=True, priority=3,
        cell=lambda n, _: f.place(n["where"]), key=lambda n: n["where"],
    ),
    Column(
        name="gpus", title="GPUS", width=4, align="right", priority=5,
        cell=lambda n, _: str(n["gpus"]), key=lambda n: n["gpus"],
    ),
    Column(
        name="job", title="JOB", width=6, priority=1,
        cell=lambda n, _: show(n["job"]) or "idle", key=lambda n: n["job"] or None,
    ),
    Column(
        name="generation", title="GEN", width=3, align="right", priority=6,
        cell=lambda n, _: str(n["generation"]), key=lambda n: n["generation"],
    ),
    Column(
        name="rate", title="$/H", width=7, align="right",
        cell=lambda n, _: f.money(n["rate"]), key=lambda n: Decimal(n["rate"]),
    ),
    Column(
        name="lease", title="LEASE", width=6, align="right", priority=4,
        cell=lambda n, _: f.duration(n["lease_s"]), key=lambda n: n["lease_s"],
    ),
    Column(
        name="heard", title="HEARD", width=5, align="right", priority=4,
        cell=lambda n, _: f.age(n["heard_s"]), key=lambda n: n["heard_s"],
    ),
    Column(
        name="up", title="UP", width=4, align="right", priority=2,
        cell=lambda n, now: f.since(n["launched"], now.market), key=lambda n: n["launched"],
    ),
    Column(
        name="notice", title="NOTICE", width=12, priority=1,
        cell=_notice, key=lambda n: n["notice_wall"], tone=lambda n: "warn",
    ),
    Column(
        name="ref", title="REF", width=16, flex=True, wide=True, priority=9,
        cell=lambda n, _: show(n["ref"]), key=lambda n: n["ref"],
    ),
)  # fmt: skip
