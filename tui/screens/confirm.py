"""A question with the money in it. The answer that changes nothing has the focus."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from dsched.tui.question import Question


class Confirm(ModalScreen[bool]):
    CSS = """
    Confirm { align: center middle; }
    Confirm > Vertical { width: 78; max-width: 96%; height: auto; max-height: 90%; border: round $warning;
        border-title-color: $text-warning; padding: 1 2; background: $surface; }
    Confirm #lines { height: auto; max-height: 14; overflow-y: auto; }
    Confirm Horizontal { height: 1; margin-top: 1; }
    Confirm Button { height: 1; min-width: 16; border: none; margin-right: 2; background: $boost; color: $foreground; }
    Confirm Button:focus { background: $primary; color: $background; text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Do it"),
        Binding("n,escape", "answer(False)", "Leave it"),
        Binding("left,right,h,l", "app.focus_next", "Other button", show=False),
    ]

    def __init__(self, question: Question) -> None:
        super().__init__()
        self.question = question

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = Content(self.question.title)
            yield Static(_text(self.question), id="lines")
            with Horizontal():
                yield Button(Content(f"n  {self.question.no}"), id="no")
                if self.question.possible:
                    yield Button(Content(f"y  {self.question.yes}"), id="yes")

    def on_mount(self) -> None:
        self.query_one("#no", Button).focus()

    @on(Button.Pressed)
    def pressed(self, event: Button.Pressed) -> None:
        self.action_answer(event.button.id == "yes")

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes and self.question.possible)


def _text(question: Question) -> Content:
    parts: list[tuple[str, str]] = []
    for line in question.lines:
        parts += [*line, ("\n", "")]
    return Content.assemble(*parts[:-1])
