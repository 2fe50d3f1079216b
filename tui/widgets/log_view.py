"""The lines of a log, safe to print, painted only where they are visible. It follows the end until one scrolls up."""

from __future__ import annotations

from typing import ClassVar, Final

from rich.cells import cell_len
from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from dsched.scheduler.view.safe import show, show_log
from dsched.scheduler.wire.api import LogLine

LINES_MAX: Final = 20_000  # the older ones are in `dsched logs`
_TRIM: Final = 2_000  # dropped at once, because dropping one by one would copy the list each time


class LogView(ScrollView, can_focus=True):
    ALLOW_SELECT = False
    # No bar below: one that comes with the first long line would hide the last one.
    DEFAULT_CSS = "LogView { background: $background; scrollbar-size: 0 1; overflow-x: auto; overflow-y: scroll; }"
    COMPONENT_CLASSES: ClassVar[set[str]] = {"log--rule"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "scroll_down", "Down", show=False),
        Binding("k,up", "scroll_up", "Up", show=False),
        Binding("ctrl+f,pagedown", "page_down", "Page down", show=False),
        Binding("ctrl+b,pageup", "page_up", "Page up", show=False),
        Binding("g,home", "scroll_home", "Start", show=False),
        Binding("G,end", "scroll_end", "End, and follow", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, bool]] = []  # text and whether it is a rule
        self._attempt: tuple[int, int] | None = None
        self._width = 0
        self._stale = False
        self.following = True

    def on_mount(self) -> None:
        self.set_interval(0.1, self._show)

    def add(self, line: LogLine) -> None:
        attempt = (line["generation"], line["rank"])
        if attempt != self._attempt:
            self._attempt = attempt
            self._append(f"── attempt {attempt[0]}, rank {attempt[1]} ──", rule=True)
        for text in show_log(line["text"].removesuffix("\n")):
            self._append(text)

    def say(self, text: str) -> None:
        """A word of ours, between the job's."""
        self._append(f"── {show(text)} ──", rule=True)

    def _append(self, text: str, *, rule: bool = False) -> None:
        self.lines.append((text, rule))
        self._width = max(self._width, cell_len(text))
        self._stale = True

    def _show(self) -> None:
        """At most ten times a second, however fast lines come."""
        if not self._stale:
            return
        self._stale = False
        if len(self.lines) > LINES_MAX:
            del self.lines[: len(self.lines) - LINES_MAX + _TRIM]
        self.virtual_size = Size(self._width, len(self.lines))
        self._follow()
        self.refresh()

    def _follow(self) -> None:
        if self.following:
            self.scroll_to(y=len(self.lines), animate=False)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Whoever scrolls up reads; whoever comes back to the end follows again."""
        super().watch_scroll_y(old_value, new_value)
        if new_value >= self.max_scroll_y:
            self.following = True
        elif new_value < old_value:
            self.following = False

    def on_resize(self) -> None:
        self.call_after_refresh(self._follow)

    def render_line(self, y: int) -> Strip:
        left, top = self.scroll_offset
        width, style = self.size.width, self.rich_style
        if top + y >= len(self.lines):
            return Strip.blank(width, style)
        text, rule = self.lines[top + y]
        if rule:
            style = self.get_component_rich_style("log--rule")
        return Strip([Segment(text, style)]).crop_extend(left, left + width, style)
