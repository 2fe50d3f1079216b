"""Where the filter is typed. What it says applies at once; a mistake is named and the last good filter stays."""

from __future__ import annotations

from textual import events
from textual.message import Message
from textual.widgets import Input


class FilterBar(Input):
    DEFAULT_CSS = """
    FilterBar { display: none; height: 1; border: none; padding: 0 1; background: $boost; }
    FilterBar:focus { border: none; }
    FilterBar.-on { display: block; }
    """

    class Left(Message):
        """Escape; `key` was pressed so soon after it that the terminal sent both as one (Alt + key)."""

        def __init__(self, key: str = "") -> None:
            super().__init__()
            self.key = key

    def __init__(self) -> None:
        super().__init__(
            placeholder="state:running gpu:h100 user:ana cost>10 !batch", id="filter", select_on_focus=False
        )

    def validate_value(self, value: str) -> str:
        """A paste may hold anything; what cannot be printed is left out."""
        return "".join(c for c in value if c.isprintable())

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape" or event.key.startswith("alt+"):
            event.stop()
            event.prevent_default()
            self.post_message(self.Left(event.key.removeprefix("alt+") if event.key != "escape" else ""))
