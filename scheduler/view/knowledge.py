"""What is known of the market, as text: predictions beside what happened, running cool-downs, what to reserve."""

from __future__ import annotations

from typing import Final

from dsched.scheduler.core.units import Moment
from dsched.scheduler.view import format as f
from dsched.scheduler.view.column import Column
from dsched.scheduler.view.safe import show
from dsched.scheduler.view.table import table
from dsched.scheduler.wire.knowledge import (
    Calibration,
    CalibrationRow,
    Commitment,
    Commitments,
    Contract,
    Cooling,
    Holding,
)

RELIABILITY: Final[tuple[Column[CalibrationRow], ...]] = (
    Column(
        name="said", title="SAID", width=10,
        cell=lambda r, _: f"{r['low']:.0%} to {r['high']:.0%}", key=lambda r: r["low"],
    ),
    Column(
        name="count", title="TIMES", width=6, align="right",
        cell=lambda r, _: f.number(r["count"]), key=lambda r: r["count"],
    ),
    Column(
        name="predicted", title="PREDICTED", width=9, align="right",
        cell=lambda r, _: f"{r['predicted']:.1%}", key=lambda r: r["predicted"],
    ),
    Column(
        name="happened", title="HAPPENED", width=9, align="right",
        cell=lambda r, _: f"{r['happened']:.1%}", key=lambda r: r["happened"],
    ),
)  # fmt: skip

COOLING: Final[tuple[Column[Cooling], ...]] = (
    Column(
        name="pool", title="COOLING DOWN", width=24, flex=True,
        cell=lambda c, _: f.place(c["pool"]), key=lambda c: c["pool"],
    ),
    Column(
        name="left", title="LEFT", width=6, align="right",
        cell=lambda c, _: f.duration(c["left_s"]), key=lambda c: c["left_s"],
    ),
    Column(
        name="refusals", title="REFUSED", width=7, align="right", priority=1,
        cell=lambda c, _: f.number(c["refusals"]), key=lambda c: c["refusals"],
    ),
    Column(
        name="interruptions", title="TAKEN", width=6, align="right", priority=1,
        cell=lambda c, _: f.number(c["interruptions"]), key=lambda c: c["interruptions"],
    ),
    Column(name="why", title="WHY", width=16, flex=True, cell=lambda c, _: show(c["why"]), key=lambda c: c["why"]),
)  # fmt: skip


COMMITMENTS: Final[tuple[Column[Commitment], ...]] = (
    Column(
        name="shape", title="RESERVE", width=24, flex=True,
        cell=lambda c, _: f"{c['machines']} x {show(c['shape'])}", key=lambda c: c["shape"],
    ),
    Column(
        name="where", title="WHERE", width=16, flex=True,
        cell=lambda c, _: show(f"{c['provider']}/{c['region']}"), key=lambda c: f"{c['provider']}/{c['region']}",
    ),
    Column(
        name="reserved", title="RESERVED $/H", width=12, align="right",
        cell=lambda c, _: f.dollars(c["reserved"]), key=lambda c: float(c["reserved"]),
    ),
    Column(
        name="paid", title="PAID $/H", width=9, align="right",
        cell=lambda c, _: f.dollars(c["paid"]), key=lambda c: float(c["paid"]),
    ),
    Column(
        name="used", title="USED", width=5, align="right",
        cell=lambda c, _: f"{c['used']:.0%}", key=lambda c: c["used"],
    ),
    Column(
        name="even", title="PAYS FROM", width=9, align="right",
        cell=lambda c, _: f"{c['breaks_even']:.0%}", key=lambda c: c["breaks_even"],
    ),
    Column(
        name="saving", title="SAVES", width=10, align="right",
        cell=lambda c, _: f.dollars(c["saving"]), key=lambda c: float(c["saving"]),
    ),
)  # fmt: skip


HELD: Final[tuple[Column[Holding], ...]] = (
    Column(name="name", title="HELD", width=16, flex=True, cell=lambda h, _: show(h["name"]), key=lambda h: h["name"]),
    Column(name="pool", title="WHERE", width=24, flex=True, cell=lambda h, _: show(h["pool"]), key=lambda h: h["pool"]),
    Column(
        name="paid", title="PAID", width=10, align="right",
        cell=lambda h, _: f.dollars(h["paid"]), key=lambda h: float(h["paid"]),
    ),
    Column(
        name="used", title="USED", width=5, align="right",
        cell=lambda h, _: f"{h['used']:.0%}", key=lambda h: h["used"],
    ),
    Column(
        name="beside", title="ON DEMAND", width=10, align="right",
        cell=lambda h, _: f.dollars(h["beside"]), key=lambda h: float(h["beside"]),
    ),
)  # fmt: skip


CONTRACTS: Final[tuple[Column[Contract], ...]] = (
    Column(
        name="contract", title="IN FORCE", width=22, flex=True,
        cell=lambda c, _: show(f"{c['kind']} {c['id']}"), key=lambda c: c["id"],
    ),
    Column(
        name="where", title="WHERE", width=16, flex=True,
        cell=lambda c, _: show(f"{c['provider']}/{c['region'] or 'anywhere'}"), key=lambda c: c["provider"],
    ),
    Column(
        name="covers", title="COVERS", width=18, flex=True, cell=lambda c, _: _covers(c), key=lambda c: c["covers"],
    ),
    Column(
        name="used", title="USED NOW", width=8, align="right",
        cell=lambda c, _: f"{c['used']:.0%}", key=lambda c: c["used"],
    ),
    Column(
        name="until", title="UNTIL", width=12, align="right",
        cell=lambda c, now: f.clock(c["until"], now.market), key=lambda c: c["until"],
    ),
)  # fmt: skip


def _covers(contract: Contract) -> str:
    of = show(contract["covers"].removeprefix("gpu:") or "everything")
    if contract["count"]:
        return f"{contract['count']} x {of}"
    return f"{f.dollars(contract['per_hour'])}/h of {of}" if float(contract["per_hour"]) else of


def commitments_text(known: Commitments, now: Moment, *, width: int | None, colour: bool) -> list[str]:
    days = f"{known['window_s'] / 86_400:.0f} days"
    held = ["", *table(HELD, known["held"], now, width=width, colour=colour)] if known["held"] else []
    if known["contracts"]:
        held += ["", *table(CONTRACTS, known["contracts"], now, width=width, colour=colour)]
    if not known["rows"]:
        return [f"no reserved capacity on sale would have cost less than what was paid in the last {days}", *held]
    return [
        f"reserved capacity that would have cost less than what was paid in the last {days}",
        "",
        *table(COMMITMENTS, known["rows"], now, width=width, colour=colour),
        *held,
    ]


def calibration_text(known: Calibration, now: Moment, *, width: int | None, colour: bool) -> list[str]:
    if not known["count"]:
        text = ["no prediction has come due yet: one is made every market hour for each spot machine that runs"]
    else:
        text = [f"interrupted within the hour? {known['count']} predictions: {_score(known)}", ""]
        text += table(RELIABILITY, known["rows"], now, width=width, colour=colour)
    if known["cooling"]:
        text += ["", *table(COOLING, known["cooling"], now, width=width, colour=colour)]
    return text


def _score(known: Calibration) -> str:
    brier = f"Brier score {known['brier']:.3f}"
    if known["skill"] is None or known["base"] is None:
        return brier
    better = "better" if known["skill"] > 0 else "worse"
    return f"{brier}, {abs(known['skill']):.0%} {better} than always saying the average ({known['base']:.3f})"
