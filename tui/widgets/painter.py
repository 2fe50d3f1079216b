"""Builds the lines of a table and keeps them: a line is built once per state of its row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from dsched.scheduler.core.units import Moment
from dsched.scheduler.view.column import Column
from dsched.scheduler.view.safe import show
from dsched.tui.widgets.layout import GAP, fit, pad

Row = Mapping[str, Any]

KEPT_MAX: Final = 4_000  # lines: a screen has under a hundred, paging through forty screens stays free
CELL_MAX: Final = 40  # cells: a number wider than its column widens it, but not without end
GUTTER: Final = 2  # cursor and mark


class Painted(NamedTuple):
    """A line as it was built, and from what: it is true while the row is the same object and looks the same."""

    row: Row
    look: tuple[bool, bool]  # cursor, mark
    texts: list[str]
    strip: Strip


class Painter:
    """`look_up` gives a component's style; `widened` is called when a number was wider than its column."""

    def __init__(
        self, look_up: Callable[[str], Style], now: Callable[[], Moment], widened: Callable[[], object]
    ) -> None:
        self.shown: tuple[tuple[Column[Any], int], ...] = ()
        self.kept: dict[str, Painted] = {}
        self._look_up, self._now, self._widened = look_up, now, widened
        self._width = 0
        self._seen: dict[str, int] = {}
        self._styles: dict[str, Style] = {}
        self._row_styles: dict[tuple[str, bool], Style] = {}

    def lay_out(self, columns: Sequence[Column[Any]], room: int, width: int) -> None:
        """`room` is for columns, `width` is the whole line."""
        self.shown, self._width = fit(columns, room, self._seen), width
        self.kept.clear()

    def restyle(self) -> None:
        self._styles.clear()
        self._row_styles.clear()
        self.kept.clear()

    def forget(self) -> None:
        self.kept.clear()

    def column_at(self, x: int) -> Column[Any] | None:
        left = GUTTER
        for column, width in self.shown:
            if left <= x < left + width + GAP:
                return column
            left += width + GAP
        return None

    def outdated(self, row_id: str) -> bool:
        """Whether a kept line would read differently now; it is forgotten then."""
        kept = self.kept.get(row_id)
        if kept is None or self._texts(kept.row) == kept.texts:
            return False
        del self.kept[row_id]
        return True

    def header(self, sort: Column[Any] | None, descending: bool) -> Strip:
        style = self.style("header")
        segments = [Segment(" " * GUTTER, style)]
        for column, width in self.shown:
            arrow = ("▾" if descending else "▴") if column is sort else ""
            title = column.title[: width - len(arrow)] + arrow
            segments.append(Segment(pad(title, width, column.align) + " " * GAP, style))
        return Strip(segments).adjust_cell_length(self._width, style)

    def line(self, row_id: str, row: Row, cursor: bool, mark: bool) -> Strip:
        look = (cursor, mark)
        kept = self.kept.get(row_id)
        if kept is None or kept.row is not row or kept.look != look:
            texts = self._texts(row)
            kept = Painted(row, look, texts, self._draw(row, texts, *look))
            if len(self.kept) >= KEPT_MAX:
                self.kept.clear()
            self.kept[row_id] = kept
        return kept.strip

    def style(self, name: str) -> Style:
        style = self._styles.get(name)
        if style is None:
            style = self._styles[name] = self._look_up(name)
        return style

    def _texts(self, row: Row) -> list[str]:
        now = self._now()
        return [show(column.cell(row, now)) for column, _ in self.shown]

    def _draw(self, row: Row, texts: list[str], cursor: bool, mark: bool) -> Strip:
        """Rows are not striped: with a stripe, one row that moves would redraw all below it."""
        gutter = ("▸" if cursor else " ") + ("✓" if mark else " ")
        segments, style, run, cells = [], self._row_style("mark", cursor), gutter, GUTTER
        for (column, width), text in zip(self.shown, texts, strict=True):
            if len(text) > width and not column.flex:
                self._widen(column, len(text))
            following = self._row_style(column.tone(row), cursor)
            if following is not style:  # cells of one style are one segment: a line is a few of them
                segments.append(Segment(run, style))
                style, run = following, ""
            run += pad(text, width, column.align) + " " * GAP
            cells += width + GAP
        segments.append(Segment(run, style))
        return Strip(segments, cells).adjust_cell_length(self._width, self._row_style("", cursor))

    def _widen(self, column: Column[Any], width: int) -> None:
        width = min(width, CELL_MAX)
        if width > self._seen.get(column.name, 0):
            self._seen[column.name] = width
            self._widened()

    def _row_style(self, tone: str, cursor: bool) -> Style:
        style = self._row_styles.get((tone, cursor))
        if style is None:
            style = self.style("row") + (self.style("cursor") if cursor else Style.null())
            style += self.style(tone) if tone else Style.null()
            self._row_styles[(tone, cursor)] = style
        return style
