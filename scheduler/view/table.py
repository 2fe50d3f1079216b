"""Lay rows out as text. A terminal's width is kept by shortening text and leaving columns out; numbers stay whole.

Where nobody looks (a pipe) nothing is cut at all. Hand-made, because the usual library shortens numbers to "17.…" and
costs a third of the command's start-up time.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dsched.scheduler.core.units import Moment
from dsched.scheduler.view.column import Column, Row, Tone
from dsched.scheduler.view.safe import CUT, LOG_LIMIT, show

GAP: Final = "  "
_SQUEEZED: Final = 4  # a text column is never narrower than this, not even when all that could go is gone
_SGR: Final[dict[Tone, str]] = {"good": "32", "warn": "33", "bad": "31", "dim": "2", "strong": "1"}


def paint(text: str, tone: Tone, *, colour: bool) -> str:
    """The text in its tone, where the terminal has colour."""
    return f"\x1b[{_SGR[tone]}m{text}\x1b[0m" if colour and tone and text else text


def cells_wide(text: str) -> int:
    """How many cells of a terminal the text takes: East Asian wide characters two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(_width(c) for c in text)


def shorten(text: str, width: int) -> str:
    """At most `width` cells, with an ellipsis where something is missing."""
    if cells_wide(text) <= width:
        return text
    room = width - 1
    kept = []
    for char in text:
        room -= _width(char)
        if room < 0:
            break
        kept.append(char)
    return "".join(kept).rstrip() + CUT


def table(
    columns: Sequence[Column[Row]], rows: Sequence[Row], now: Moment, *, width: int | None, colour: bool
) -> list[str]:
    """A header and a line per row; a column that is empty in every row is left out. `width` None: nothing is cut."""
    laid = [_lay(c, [c.cell(row, now) for row in rows]) for c in columns]
    laid = [x for x in laid if not rows or any(x.cells)]
    if width is not None:
        laid = _fit(laid, width)
    lines = [GAP.join(paint(x.pad(x.column.title), "dim", colour=colour) for x in laid).rstrip()]
    for i, row in enumerate(rows):
        parts = [paint(x.pad(x.cells[i]), x.column.tone(row), colour=colour) for x in laid]
        lines.append(GAP.join(parts).rstrip())
    return lines


def csv_text(columns: Sequence[Column[Row]], rows: Sequence[Row]) -> str:
    """The keys of the columns, exact and without a sign of formatting: what a spreadsheet wants."""
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([c.name for c in columns])
    writer.writerows([["" if (key := c.key(row)) is None else _inert(key) for c in columns] for row in rows])
    return out.getvalue()


@dataclass(slots=True)
class _Laid:
    """A column with its cells and the width it was given."""

    column: Column[object]
    cells: list[str]
    natural: int
    width: int

    def pad(self, text: str) -> str:
        text = shorten(text, self.width)
        space = " " * (self.width - cells_wide(text))
        return space + text if self.column.align == "right" else text + space


def _lay(column: Column[Row], cells: list[str]) -> _Laid:
    natural = max(map(cells_wide, [column.title, *cells]))
    return _Laid(column, cells, natural, natural)  # type: ignore[arg-type]  # only ever shown rows of its own kind


def _fit(laid: list[_Laid], width: int) -> list[_Laid]:
    """Shorten text to its least useful width, else leave out the least important column; at last squeeze the text."""
    while True:
        for each in laid:
            each.width = each.natural
        if _squeeze(laid, width, floor=None):
            return laid
        optional = [x for x in laid if x.column.priority]
        if not optional:
            _squeeze(laid, width, floor=_SQUEEZED)
            return laid
        least = max(x.column.priority for x in optional)
        last = max(i for i, x in enumerate(laid) if x.column.priority == least)
        laid = laid[:last] + laid[last + 1 :]


def _squeeze(laid: list[_Laid], width: int, floor: int | None) -> bool:
    """Take the excess from the widest text columns first. False: it is still too wide."""
    excess = sum(x.width for x in laid) + len(GAP) * (len(laid) - 1) - width
    while excess > 0:
        loose = [x for x in laid if x.column.flex and x.width > (floor or x.column.width)]
        if not loose:
            return False
        widest = max(loose, key=lambda x: x.width)
        widest.width -= 1
        excess -= 1
    return True


def _width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _inert(key: object) -> str:
    """A spreadsheet runs a cell that starts like a formula; a quote before it keeps foreign text text."""
    if not isinstance(key, str):
        return str(key)
    text = show(key, LOG_LIMIT)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
