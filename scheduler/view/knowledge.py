"""What is known of the market, as text: predictions beside what happened, running cool-downs, what to reserve."""

from __future__ import annotations

from typing import Any, Final

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


def _text(name: str, title: str, width: int) -> Column[Any]:
    return Column(
        name=name, title=title, width=width, flex=True, cell=lambda r, _: show(r[name]), key=lambda r: r[name]
    )


def _count(name: str, title: str, width: int, *, priority: int = 0) -> Column[Any]:
    return Column(
        name=name, title=title, width=width, align="right", priority=priority,
        cell=lambda r, _: f.number(r[name]), key=lambda r: r[name],
    )  # fmt: skip


def _share(name: str, title: str, width: int, *, field: str = "", digits: int = 0) -> Column[Any]:
    of = field or name
    return Column(
        name=name, title=title, width=width, align="right",
        cell=lambda r, _: f"{r[of]:.{digits}%}", key=lambda r: r[of],
    )  # fmt: skip


def _usd(name: str, title: str, width: int) -> Column[Any]:
    return Column(
        name=name, title=title, width=width, align="right",
        cell=lambda r, _: f.dollars(r[name]), key=lambda r: float(r[name]),
    )  # fmt: skip


RELIABILITY: Final[tuple[Column[CalibrationRow], ...]] = (
    Column(
        name="said", title="SAID", width=10,
        cell=lambda r, _: f"{r['low']:.0%} to {r['high']:.0%}", key=lambda r: r["low"],
    ),
    _count("count", "TIMES", 6),
    _share("predicted", "PREDICTED", 9, digits=1),
    _share("happened", "HAPPENED", 9, digits=1),
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
    _count("refusals", "REFUSED", 7, priority=1),
    _count("interruptions", "TAKEN", 6, priority=1),
    _text("why", "WHY", 16),
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
    _usd("reserved", "RESERVED $/H", 12),
    _usd("paid", "PAID $/H", 9),
    _share("used", "USED", 5),
    _share("even", "PAYS FROM", 9, field="breaks_even"),
    _usd("saving", "SAVES", 10),
)  # fmt: skip

HELD: Final[tuple[Column[Holding], ...]] = (
    _text("name", "HELD", 16),
    _text("pool", "WHERE", 24),
    _usd("paid", "PAID", 10),
    _share("used", "USED", 5),
    _usd("beside", "ON DEMAND", 10),
)

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
    _share("used", "USED NOW", 8),
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
