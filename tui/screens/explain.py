"""Why a job is where it is, or why it waits: the stored plan, every offer with its cost or its reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from dsched.scheduler.core.units import Moment
from dsched.scheduler.view import format as f
from dsched.scheduler.view.market import plan_columns
from dsched.scheduler.view.safe import show
from dsched.scheduler.wire.api import Job, Line, Plan
from dsched.tui.screens.page import Page
from dsched.tui.view import STYLES
from dsched.tui.widgets.virtual_table import VirtualTable


def head(plan: Plan, now: Moment) -> Content:
    dim = STYLES["dim"]
    refused = ", ".join(f"{count:,} {show(code, 40)}" for code, count in plan["refused"].items())
    return Content.assemble(
        (show(plan["summary"]), "bold"),
        (f"\nneeds {show(plan['need'])}   policy {show(plan['policy'], 40)}", ""),
        (f"\ndecided {f.clock(plan['at'], now.market)}   {show(plan['id'], 40)}", dim),
        (f"\nrefused {refused}" if refused else "", STYLES["warn"]),
    )


def why(line: Line) -> Content:
    """The row under the cursor in one sentence: its cell may have been cut."""
    return Content.assemble((f" {f.place(line['offer'])}  ", "bold"), (show(line["why"]) or show(line["verdict"]), ""))


class Explain(Page):
    CSS = """
    Explain #head { height: auto; max-height: 6; padding: 1 1 1 1; }
    Explain VirtualTable { height: 1fr; }
    Explain #why { height: 1; background: $panel; text-wrap: nowrap; text-overflow: ellipsis; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left_square_bracket", "step(-1)", "Older plan", key_display="["),
        Binding("right_square_bracket", "step(1)", "Newer plan", key_display="]"),
    ]

    def __init__(self, job: Job, plans: list[Plan], now: Callable[[], Moment]) -> None:
        super().__init__(f"{job['id']} {job['name']}: why {'there' if job['where'] else 'it waits'}")
        self.plans, self.at, self.now = plans, len(plans) - 1, now
        self.lines: dict[str, Line] = {}

    def body(self) -> ComposeResult:
        yield Static(id="head")
        yield VirtualTable(plan_columns(self.plans[self.at]), self.lines, now=self.now, empty="no offers were known")
        yield Static(id="why")

    def on_mount(self) -> None:
        self.action_step(0)
        self.query_one(VirtualTable).focus()

    def action_step(self, by: int) -> None:
        self.at = max(0, min(len(self.plans) - 1, self.at + by))
        plan = self.plans[self.at]
        self.lines.clear()
        self.lines.update({f"{i:05d}": line for i, line in enumerate(plan["lines"])})
        self.query_one("#head", Static).update(head(plan, self.now()))
        table = self.query_one(VirtualTable)
        table.show_columns(plan_columns(plan))
        table.reload()
        self.query_one(".title", Static).update(Content(f"{self.heading}   plan {self.at + 1} of {len(self.plans)}"))

    @on(VirtualTable.Moved)
    @on(VirtualTable.Ordered)
    def moved(self, event: VirtualTable.Told) -> None:
        if event.row_id is not None:
            self.query_one("#why", Static).update(why(self.lines[event.row_id]), layout=False)
