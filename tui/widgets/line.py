"""Text of ours that is painted line by line, and only the lines that read differently."""

from __future__ import annotations

from textual.content import Content
from textual.geometry import Region
from textual.widget import Widget


class Lines(Widget):
    """One row of the screen per line of the content: nothing is wrapped."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "Lines { height: 1; text-wrap: nowrap; text-overflow: ellipsis; }"

    def __init__(self) -> None:
        super().__init__()
        self.drawn = Content("")

    def render(self) -> Content:
        return self.drawn

    def draw(self, content: Content) -> None:
        if content == self.drawn:
            return
        was, now = self.drawn.split("\n"), content.split("\n")
        self.drawn = content
        width = self.size.width
        rows = [y for y in range(max(len(was), len(now))) if was[y : y + 1] != now[y : y + 1]]
        self.refresh(*(Region(0, y, width, 1) for y in rows))
