"""Every key of the main screen, once: bindings, footer, help and palette are made from this list."""

from __future__ import annotations

from typing import Final

from textual.binding import Binding

CHANGES: Final = frozenset({"act"})  # actions that change something: a read-only session has none of them
OF_JOBS: Final = frozenset({"act", "log", "explain", "open", "wide"})  # actions that need the Jobs tab
ALWAYS: Final = frozenset({"help", "theme", "palette", "app.quit", "quit", "back"})  # those that need no daemon

MAIN: Final[list[Binding]] = [
    Binding("1", "tab('jobs')", "Jobs", show=False),
    Binding("2", "tab('market')", "Market", show=False),
    Binding("3", "tab('events')", "Events", show=False),
    Binding("slash", "filter", "Filter", key_display="/"),
    Binding("l", "log", "Log"),
    Binding("e", "explain", "Explain"),
    Binding("m", "act('migrate')", "Migrate"),
    Binding("p", "act('pause')", "Pause"),
    Binding("r", "act('resume')", "Resume"),
    Binding("x", "act('cancel')", "Cancel"),
    Binding("w", "wide", "More columns", show=False),
    Binding("z", "freeze", "Freeze the screen", show=False),
    Binding("T", "theme", "Next theme", show=False),
    Binding("escape", "back", "Back", show=False),
    Binding("colon", "palette", "Command palette", key_display=":", show=False),
    Binding("question_mark", "help", "Help", key_display="?"),
    Binding("q", "app.quit", "Quit"),
]
