"""The names of the tabs in one line, with how many rows each has; a click chooses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from textual import events
from textual.content import Content
from textual.message import Message

from dsched.tui.widgets.line import Lines

TITLES: Final = {"jobs": "1 Jobs", "market": "2 Market", "events": "3 Events"}
_GAP: Final = 3


class Tabs(Lines):
    DEFAULT_CSS = "Tabs { padding: 0 1; background: $background; }"

    class Chosen(Message):
        def __init__(self, tab: str) -> None:
            super().__init__()
            self.tab = tab

    def __init__(self) -> None:
        super().__init__()
        self._labels: dict[str, str] = {}

    def show(self, active: str, counts: Mapping[str, str], note: str = "") -> None:
        """`note` is the filter in force: it hides rows, so it is always said."""
        self._labels = {tab: f"{title} {counts.get(tab, '')}".rstrip() for tab, title in TITLES.items()}
        parts: list[tuple[str, str]] = []
        for tab, label in self._labels.items():
            chosen = tab == active
            parts.append(
                (f"[{label}]" if chosen else f" {label} ", "bold $text-primary" if chosen else "$foreground 60%")
            )
            parts.append((" " * (_GAP - 2), ""))
        if note:
            parts.append((f"  / {note}", "$text-warning"))
        self.draw(Content.assemble(*parts))

    def on_click(self, event: events.Click) -> None:
        left = 1
        for tab, label in self._labels.items():
            if left <= event.x < left + len(label) + 2:
                self.post_message(self.Chosen(tab))
                return
            left += len(label) + _GAP
