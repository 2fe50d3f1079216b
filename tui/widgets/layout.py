"""Which columns fit into a width, and how wide each is. Whole columns go by priority; a number is never cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from rich.cells import cell_len, set_cell_size

from dsched.scheduler.view.column import Align, Column

Row = TypeVar("Row")

GAP = 1  # blank cells between columns
_FLEX_MIN = 4  # cells: a name cut below this says nothing


def fit(
    columns: Sequence[Column[Row]], width: int, seen: Mapping[str, int] | None = None
) -> tuple[tuple[Column[Row], int], ...]:
    """The columns that fit with their widths; `seen` holds wider cells that were met (column name -> cells)."""
    seen = seen or {}
    widths = {c.name: max(c.width, len(c.title), seen.get(c.name, 0)) for c in columns}
    left = list(columns)
    while (slack := width - sum(widths[c.name] + GAP for c in left) + GAP) < 0:
        droppable = [c for c in left if c.priority]
        if not droppable:
            break
        left.remove(max(reversed(droppable), key=lambda c: c.priority))
    flex = [c for c in left if c.flex]
    for place, column in enumerate(flex):
        share = slack // (len(flex) - place)
        share = max(share, _FLEX_MIN - widths[column.name])
        widths[column.name] += share
        slack -= share
    return tuple((c, widths[c.name]) for c in left)


def pad(text: str, width: int, align: Align) -> str:
    """Exactly `width` terminal cells; what is too long ends in an ellipsis."""
    length = len(text) if text.isascii() else cell_len(text)
    if length > width:
        text = set_cell_size(text, max(0, width - 1)) + "…"[:width]
        length = width
    blank = " " * (width - length)
    return text + blank if align == "left" else blank + text
