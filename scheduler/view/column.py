"""One definition per column: CLI, TUI and CSV render the same list, so a number reads the same everywhere.

A cell is text for people; a key is the same thing for machines: it sorts the table and fills the CSV. Every cell is
already safe to print (view/safe.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Generic, Literal, TypeVar

from dsched.scheduler.core.units import Moment

Tone = Literal["", "good", "warn", "bad", "dim", "strong"]  # a hint for colour; the text says the same without it
Align = Literal["left", "right"]
Key = str | int | float | Decimal | None
Row = TypeVar("Row")


def plain(row: object) -> Tone:
    """The tone of most columns."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(Generic[Row]):
    name: str  # for --columns and the CSV's header: "spent"
    title: str  # holds the unit, so that the cells need none: "$/H"
    width: int  # the room its usual widest cell needs; a flex column is not squeezed below it while others can go
    cell: Callable[[Row, Moment], str]
    key: Callable[[Row], Key]
    align: Align = "left"
    priority: int = 0  # 0: always shown; where room is short, the highest goes first
    flex: bool = False  # text that may be shortened with an ellipsis; a number never is
    wide: bool = False  # only shown when asked for: `-o wide`, key `w`
    tone: Callable[[Row], Tone] = plain


def order(rows: Iterable[Row], column: Column[Row], *, reverse: bool = False) -> list[Row]:
    """Rows by that column, those without a value last either way; equal ones keep their order."""
    known: list[tuple[Key, Row]] = []
    unknown: list[Row] = []
    for row in rows:
        key = column.key(row)
        if key is None:
            unknown.append(row)
        else:
            known.append((key, row))
    known.sort(key=lambda pair: pair[0], reverse=reverse)  # type: ignore[arg-type,return-value]  # one type per column
    return [row for _, row in known] + unknown


def standard(columns: Sequence[Column[Row]], *, wide: bool = False) -> tuple[Column[Row], ...]:
    """The columns to show when none were named."""
    return tuple(c for c in columns if wide or not c.wide)


def select(columns: Sequence[Column[Row]], names: Sequence[str]) -> tuple[Column[Row], ...]:
    """The named columns in the order named. Raises ValueError with the names there are."""
    by_name = {c.name: c for c in columns}
    unknown = [n for n in names if n not in by_name]
    if unknown:
        raise ValueError(f"no column {unknown[0]!r}; there are: {', '.join(by_name)}")
    return tuple(by_name[n] for n in names)
