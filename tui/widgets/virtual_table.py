"""A table that paints only what is visible and only what changed.

Textual's own DataTable renders everything anew when one cell changes; here a changed row that is not on screen costs
one dictionary look-up, and one that is costs one line. A line is built once per state of its row and then kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.scrollbar import ScrollBar
from textual.strip import Strip
from textual.timer import Timer

from dsched.scheduler.core.units import Moment
from dsched.scheduler.view.column import Column
from dsched.scheduler.view.safe import show
from dsched.tui.order import Order
from dsched.tui.widgets.bar import Bar
from dsched.tui.widgets.layout import GAP, pad
from dsched.tui.widgets.painter import GUTTER, Painter

Row = Mapping[str, Any]

RESORT_S: Final = 1.0  # rows that jump more often than this cannot be read


class VirtualTable(ScrollView, can_focus=True):
    """Rows are `rows[id]`, replaced (never changed) by their owner, who then calls `changed` or `reload`."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "table--header",
        "table--cursor",
        "table--row",
        "table--mark",
        "table--good",
        "table--warn",
        "table--bad",
        "table--dim",
        "table--strong",
    }
    DEFAULT_CSS = """
    VirtualTable {
        background: $background; scrollbar-size-vertical: 1; overflow-x: hidden; overflow-y: scroll;
        scrollbar-color: $foreground 25%; scrollbar-background: $surface;
        & > .table--header { color: $foreground 60%; background: $panel; text-style: bold; }
        & > .table--row { color: $foreground; background: $background; }
        & > .table--cursor { background: $primary 35%; text-style: bold; }
        & > .table--mark { color: $text-accent; text-style: bold; }
        & > .table--good { color: $text-success; }
        & > .table--warn { color: $text-warning; }
        & > .table--bad { color: $text-error; text-style: bold; }
        & > .table--dim { color: $foreground 50%; }
        & > .table--strong { text-style: bold; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", "Down", show=False),
        Binding("k,up", "move(-1)", "Up", show=False),
        Binding("ctrl+f,pagedown", "page(1)", "Page down", show=False),
        Binding("ctrl+b,pageup", "page(-1)", "Page up", show=False),
        Binding("g,home", "first", "First row", show=False),
        Binding("G,end", "last", "Last row", show=False),
        Binding("space", "mark", "Mark the row", show=False),
        Binding("enter", "select", "Open the row", show=False),
        Binding("s", "sort", "Sort by the next column", show=False),
        Binding("S", "flip", "Turn the order round", show=False),
    ]

    cursor = reactive(0, repaint=False)

    class Told(Message):
        def __init__(self, table: VirtualTable, row_id: str | None) -> None:
            super().__init__()
            self.table, self.row_id = table, row_id

        @property
        def control(self) -> VirtualTable:
            return self.table

    class Moved(Told):
        """Another row is under the cursor."""

    class Selected(Told):
        """Enter or a double click on a row."""

    class Ordered(Told):
        """All rows, the filter or the sort changed."""

    def __init__(
        self,
        columns: Sequence[Column[Any]],
        rows: Mapping[str, Row],
        *,
        now: Callable[[], Moment],
        sort: str | None = None,
        descending: bool = False,
        empty: str = "nothing yet",
        clock: Callable[[], float] = time.monotonic,
        id: str | None = None,
    ) -> None:
        super().__init__(id=id)
        self.columns: tuple[Column[Any], ...] = tuple(columns)
        self.rows, self.order = rows, Order(rows)
        self.sort_column = next((c for c in self.columns if c.name == sort), None)
        if self.sort_column is not None:
            self.order.key, self.order.descending = self.sort_column.key, descending
        self.marks: set[str] = set()
        self.empty = empty
        self.chosen = False  # the user picked a row: it is followed when the rows move
        self._clock = clock
        self._painter = Painter(self._style, now, lambda: self.call_later(self._layout))
        self._sorted_at = float("-inf")
        self._due: Timer | None = None

    @property
    def vertical_scrollbar(self) -> ScrollBar:
        """As the base class makes it, of a kind that costs less to draw."""
        if self._vertical_scrollbar is None:
            made = self._vertical_scrollbar = Bar(name="vertical", thickness=self.scrollbar_size_vertical)
            made.display = False
            self.app._start_widget(self, made)
        return self._vertical_scrollbar

    # What the owner calls.

    @property
    def current(self) -> str | None:
        ids = self.order.ids
        return ids[self.cursor] if 0 <= self.cursor < len(ids) else None

    def changed(self, ids: Iterable[str]) -> None:
        """Rows were replaced, added or taken away."""
        ids = list(ids)
        gone = [i for i in ids if i not in self.rows]
        stale = self.order.touch(ids)
        if gone:
            self.marks.difference_update(gone)
            self._reorder()
        elif stale:
            self._reorder_soon()
        at, (first, last) = self.order.at, self._visible()
        for row_id in ids:
            if first <= at.get(row_id, -1) < last:
                self._repaint(at[row_id])

    def reload(self) -> None:
        """All rows may have changed, or the filter did."""
        self.marks &= self.rows.keys()
        self._painter.forget()
        self._reorder(reset=True)
        self.refresh()

    def filter(self, keep: Callable[[Row], bool] | None) -> None:
        self.order.keep = keep
        self._reorder(reset=True)

    def sort_by(self, column: Column[Any], *, descending: bool) -> None:
        self.refresh(Region(0, 0, self.size.width, 1))
        self.sort_column = column
        self.order.key, self.order.descending = column.key, descending
        self._reorder(reset=True)

    def show_columns(self, columns: Sequence[Column[Any]]) -> None:
        self.columns = tuple(columns)
        self._layout()

    def unmark(self) -> None:
        self.marks.clear()
        self.refresh()

    def go(self, row_id: str) -> None:
        """Put the cursor on a row, if it is shown."""
        if (index := self.order.at.get(row_id)) is not None:
            self._choose(index)

    def age(self) -> None:
        """Time went by: repaint the visible lines that now read differently (ages, countdowns)."""
        for index in range(*self._visible()):
            if self._painter.outdated(self.order.ids[index]):
                self._repaint(index)

    # Keys and mouse.

    def action_move(self, by: int) -> None:
        self._choose(self.cursor + by)

    def action_page(self, by: int) -> None:
        self._choose(self.cursor + by * max(1, self.size.height - 2))

    def action_first(self) -> None:
        """The top, and stay there whatever row comes to stand on it."""
        self._choose(0)
        self.chosen = False

    def action_last(self) -> None:
        self._choose(len(self.order.ids) - 1)

    def action_mark(self) -> None:
        if (row_id := self.current) is not None:
            self.marks ^= {row_id}
            self._repaint(self.cursor)
            self.action_move(1)

    def action_select(self) -> None:
        self.post_message(self.Selected(self, self.current))

    def action_sort(self) -> None:
        columns = [c for c, _ in self._painter.shown]
        at = next((i for i, c in enumerate(columns) if c is self.sort_column), -1)
        self._sort_first(columns[(at + 1) % len(columns)])

    def action_flip(self) -> None:
        if self.sort_column is not None:
            self.sort_by(self.sort_column, descending=not self.order.descending)

    def on_click(self, event: events.Click) -> None:
        if event.y == 0:
            if (column := self._painter.column_at(event.x)) is None:
                return
            if column is self.sort_column:
                self.action_flip()
            else:
                self._sort_first(column)
        elif (index := event.y - 1 + self.scroll_offset.y) < len(self.order.ids):
            self._choose(index)
            if event.chain == 2:
                self.action_select()

    def _sort_first(self, column: Column[Any]) -> None:
        """Numbers start with the largest, words with A."""
        self.sort_by(column, descending=column.align == "right")

    def _choose(self, index: int) -> None:
        self.chosen = True
        self.cursor = max(0, min(len(self.order.ids) - 1, index))

    def watch_cursor(self, before: int, after: int) -> None:
        self._repaint(before)
        self._repaint(after)
        top, height = self.scroll_offset.y, max(1, self.size.height - 1)
        if after < top:
            self.scroll_to(y=after, animate=False)
        elif after >= top + height:
            self.scroll_to(y=after - height + 1, animate=False)
        self.post_message(self.Moved(self, self.current))

    # Order.

    def _reorder_soon(self) -> None:
        rest = self._sorted_at + RESORT_S - self._clock()
        if rest <= 0:
            self._reorder()
        elif self._due is None and self.is_running:
            self._due = self.set_timer(rest, self._reorder)

    def _reorder(self, *, reset: bool = False) -> None:
        """Sort again; the chosen row keeps the cursor and its line on the screen."""
        if self._due is not None:
            self._due.stop()
            self._due = None
        self._sorted_at = self._clock()
        before, line = self.current, self.cursor - self.scroll_offset.y
        stood, cursor = (self.scroll_offset.y, self._visible_ids()), self.cursor
        if reset:
            self.order.reset()
        else:
            self.order.rebuild()
        self._fit_rows()
        index = min(self.cursor, max(0, len(self.order.ids) - 1))
        if self.chosen and before is not None:
            index = self.order.at.get(before, index)
        self.set_reactive(VirtualTable.cursor, index)
        if self.chosen and 0 <= line < self.size.height - 1 and index - line != self.scroll_offset.y:
            self.scroll_to(y=max(0, index - line), animate=False)
        self._repaint_moved(*stood, cursor)
        if self.current != before:
            self.post_message(self.Moved(self, self.current))
        if reset:
            self.post_message(self.Ordered(self, self.current))

    def _repaint_moved(self, top: int, ids: list[str], cursor: int) -> None:
        """Only the lines on which another row stands than before, or the cursor."""
        now = self._visible_ids()
        if top != self.scroll_offset.y or len(now) != len(ids):
            self.refresh()
            return
        for i, (was, is_) in enumerate(zip(ids, now, strict=True)):
            if was != is_:
                self._repaint(top + i)
        if cursor != self.cursor:
            self._repaint(cursor)
            self._repaint(self.cursor)

    def _visible(self) -> tuple[int, int]:
        """The indices of the rows on screen, the last one not included."""
        top = self.scroll_offset.y
        return top, min(top + self.size.height - 1, len(self.order.ids))

    def _visible_ids(self) -> list[str]:
        first, last = self._visible()
        return self.order.ids[first:last]

    def on_unmount(self) -> None:
        if self._due is not None:
            self._due.stop()

    # Painting.

    def on_resize(self) -> None:
        self._layout()  # a tab that was mounted hidden had no size and so no header

    def on_show(self) -> None:
        self._fit_rows()

    def _fit_rows(self) -> None:
        """A new size lays the whole screen out anew, so a table that is not shown waits with it."""
        if self.display:
            self.virtual_size = Size(0, len(self.order.ids) + 1)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._painter.restyle()

    def _layout(self) -> None:
        room = self.scrollable_content_region.width - GUTTER - GAP  # without the scroll bar
        self._painter.lay_out(self.columns, max(0, room), self.size.width)
        self._fit_rows()
        self.refresh()

    def _repaint(self, index: int) -> None:
        y = index - self.scroll_offset.y + 1
        if 0 < y < self.size.height:
            self.refresh(Region(0, y, self.size.width, 1))

    def render_lines(self, crop: Region) -> list[Strip]:
        """Our lines as they are: they fill the width in their own colours and have no border, so that the toolkit's
        styling of each would change nothing and cost a third of a page."""
        first, last = crop.column_span
        blank, ground = self._painter.style("row"), self.background_colors[1]
        lines = [self.render_line(y) for y in crop.line_range]
        for line_filter in self.get_line_filters():
            lines = [line.apply_filter(line_filter, ground) for line in lines]
        return [
            line if (first, last) == (0, line.cell_length) else line.crop_extend(first, last, blank) for line in lines
        ]

    def render_line(self, y: int) -> Strip:
        if y == 0:
            return self._painter.header(self.sort_column, self.order.descending)
        index = y - 1 + self.scroll_offset.y
        if index < len(self.order.ids):
            return self._line(index)
        if y == 2 and not self.order.ids:
            return Strip([Segment(pad("  " + show(self.empty), self.size.width, "left"), self._painter.style("dim"))])
        return Strip.blank(self.size.width, self._painter.style("row"))

    def _line(self, index: int) -> Strip:
        row_id = self.order.ids[index]
        return self._painter.line(row_id, self.rows[row_id], index == self.cursor, row_id in self.marks)

    def _style(self, name: str) -> Style:
        """A component's colours, blended over the table's background, because Rich knows no transparency."""
        styles = self.get_component_styles(f"table--{name}")
        ground = self.get_component_styles("table--row").background
        filled = styles.background if styles.has_rule("background") else None
        coloured = styles.has_rule("color")
        return Style(
            color=((ground + (filled or ground)) + styles.color).rich_color if coloured else None,
            bgcolor=(ground + filled).rich_color if filled is not None else None,
            bold=True if styles.text_style.bold else None,
        )
