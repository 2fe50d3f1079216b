"""One line with the last event, so that what just happened is seen on every tab."""

from __future__ import annotations

from typing import Final

from textual.content import Content

from dsched.scheduler.view import format as f
from dsched.scheduler.view.column import Tone
from dsched.scheduler.view.safe import show
from dsched.scheduler.wire.api import Event
from dsched.tui.view import STYLES
from dsched.tui.widgets.line import Lines

# The end of an event's kind ("node.notice") -> glyph and tone.
_SIGNS: Final[dict[str, tuple[str, Tone]]] = {
    "notice": ("▲", "warn"),
    "lost": ("✖", "bad"),
    "failed": ("✖", "bad"),
    "refused": ("✖", "warn"),
    "succeeded": ("✔", "good"),
    "started": ("●", "good"),
    "placed": ("⇄", ""),
}


def tick(event: Event | None) -> Content:
    if event is None:
        return Content("")
    glyph, tone = _SIGNS.get(event["kind"].rpartition(".")[2], ("·", ""))
    return Content.assemble(
        (f" {f.second(event['wall'])} ", STYLES["dim"]),
        (f"{glyph} {show(event['kind'], 32)} ", STYLES[tone]),
        (f"{show(event['job'], 24)} ", "bold"),
        (show(event["why"]), ""),
    )


class Ticker(Lines):
    DEFAULT_CSS = "Ticker { background: $panel; }"
