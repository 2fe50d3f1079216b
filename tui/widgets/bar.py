"""The table's scroll bar, drawn without the toolkit's detour through a console: each page of a table moves it."""

from __future__ import annotations

from typing import cast

from textual.geometry import Region
from textual.scrollbar import ScrollBar, ScrollBarRender
from textual.strip import Strip


class Bar(ScrollBar):
    """Looks and works like the toolkit's. Most of its lines are the same few, which are made once."""

    def render_lines(self, crop: Region) -> list[Strip]:
        drawn, (width, height) = cast("ScrollBarRender", self.render()), self.size
        style = self.app.console.get_style(drawn.style)
        assert style.bgcolor is not None, "a scroll bar has both colours"
        assert style.color is not None, "a scroll bar has both colours"
        segments = drawn.render_bar(
            size=height,
            virtual_size=drawn.virtual_size,
            window_size=drawn.window_size,
            position=drawn.position,
            thickness=width,
            back_color=style.bgcolor,
            bar_color=style.color,
        ).segments
        lines = {id(segment): Strip([segment], width) for segment in segments}
        for line_filter in self.get_line_filters():
            lines = {key: line.apply_filter(line_filter, self.background_colors[1]) for key, line in lines.items()}
        first, last = crop.column_span
        shown = (lines[id(segments[y])] for y in crop.line_range)
        return [line if (first, last) == (0, width) else line.crop(first, last) for line in shown]
