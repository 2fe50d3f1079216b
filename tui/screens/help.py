"""Every key that works now, made from the live bindings, and the filter language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from textual.binding import ActiveBinding
from textual.content import Content
from textual.keys import format_key

from dsched.tui import view
from dsched.tui.view import STYLES

_HIDDEN: Final = (
    "focus_",
    "copy_text",
    "command_palette",
    "help_quit",
    "screen.",
    "scroll_",
    "page_left",
    "page_right",
)


def keys(active: Mapping[str, ActiveBinding]) -> list[tuple[str, str]]:
    """Keys with the same meaning in one line: ("j, down", "Down")."""
    lines: dict[str, list[str]] = {}
    for bound in active.values():
        binding = bound.binding
        if bound.enabled and binding.description and not binding.action.removeprefix("app.").startswith(_HIDDEN):
            shown = binding.key_display or format_key(binding.key)
            if shown not in (names := lines.setdefault(binding.description, [])):
                names.append(shown)
    return [(", ".join(names), what) for what, names in lines.items()]


def text(active: Mapping[str, ActiveBinding]) -> Content:
    parts: list[tuple[str, str]] = []
    for names, what in keys(active):
        parts += [(f"  {names:<20}", "bold"), (f"{what}\n", "")]
    parts.append(("\nfilter\n", STYLES["dim"]))
    for term, what in view.GRAMMAR:
        parts += [(f"  {term:<20}", "bold"), (f"{what}\n", "")]
    for name, fields in (("jobs", view.JOB_FIELDS), ("market", view.OFFER_FIELDS), ("events", view.EVENT_FIELDS)):
        parts += [(f"  {name:<20}", STYLES["dim"]), (f"{' '.join(fields.names)}\n", "")]
    return Content.assemble(*parts)
