"""One measured number, its goal, and its ratio to what this machine can do at best, measured in the same run.

A script that runs under `bench/run.py` hands its figures over in the file that DSCHED_BENCH_FIGURES names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

FILE: Final = "DSCHED_BENCH_FIGURES"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    name: str
    value: float
    unit: str
    goal: float | None = None
    at_least: bool = False  # the goal is a floor, not a ceiling
    limit: float | None = None  # what the machine itself can do, in the same unit
    beside: str = ""  # and what that is
    note: str = ""

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value < self.goal

    def row(self) -> tuple[str, str, str, str, str]:
        goal = "" if self.goal is None else f"{'>=' if self.at_least else '<'} {_short(self.goal)}"
        verdict = {None: "", True: "ok", False: "MISSED"}[self.met]
        ratio = f"{_short(self.value / self.limit)} x {self.beside}" if self.limit else ""
        return self.name, f"{_short(self.value)} {self.unit}", goal, verdict, f"{ratio}   {self.note}".rstrip()


def _short(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def hand_over(figures: Iterable[Figure]) -> None:
    """Give these to the run that started this script, if one did."""
    path = os.environ.get(FILE)
    if path:
        with Path(path).open("a") as file:
            file.writelines(json.dumps(asdict(figure)) + "\n" for figure in figures)


def handed_over(path: Path) -> list[Figure]:
    return [Figure(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def table(figures: Sequence[Figure]) -> str:
    rows = [("", "value", "goal", "", "of this machine's own"), *(figure.row() for figure in figures)]
    name, value, goal = (max(len(row[column]) for row in rows) for column in (0, 1, 2))
    return "\n".join(f"{a:{name}}  {b:>{value}}  {c:>{goal}}  {d:6}  {e}".rstrip() for a, b, c, d, e in rows)


def share(values: Iterable[float], at: float) -> float:
    """The value below which this share of the sample lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * at))]
