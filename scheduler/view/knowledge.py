"""How well the market is known, as text: a table of predictions beside what happened, and the running cool-downs."""

from __future__ import annotations

from typing import Final

from dsched.scheduler.core.units import Moment
from dsched.scheduler.view import format as f
from dsched.scheduler.view.column import Column
from dsched.scheduler.view.safe import show
from dsched.scheduler.view.table import table
from dsched.scheduler.wire.api import Calibration, CalibrationRow, Cooling

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
