"""What stands where the tables would be while no daemon has answered yet: what is wrong, and what to do."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from dsched.scheduler.view.safe import show
from dsched.tui.feed import Link
from dsched.tui.view import STYLES

DEFAULT_REMEDY = "dsched daemon"


def absent(link: Link, address: str, tries: int) -> Content:
    if link.state == "connecting":
        return Content.assemble((f"connecting to {show(address)} ...", STYLES["dim"]))
    dim = STYLES["dim"]
    return Content.assemble(
        ("✖ no daemon answers\n\n", STYLES["bad"]),
        ("where  ", dim), (f"{show(address)}\n", ""),
        ("why    ", dim), (f"{show(link.why)}\n", ""),
        ("do     ", dim), (f"{show(link.remedy) or DEFAULT_REMEDY}\n\n", "bold"),
        (f"tried {tries} time{'' if tries == 1 else 's'}; this screen comes alive as soon as it answers. q quits", dim),
    )  # fmt: skip


class Absent(Static):
    DEFAULT_CSS = "Absent { height: 1fr; content-align: center middle; padding: 1 2; }"
