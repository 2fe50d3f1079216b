"""A full screen over the main one that Escape leaves: detail, explain, log and help are pages."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Static

from dsched.scheduler.view.safe import show


class Page(Screen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back"),
        Binding("q", "leave", "Back", show=False),
    ]

    def __init__(self, title: str) -> None:
        super().__init__()
        self.heading = show(title)

    def compose(self) -> ComposeResult:
        yield Static(Content(self.heading), classes="title")
        yield from self.body()
        yield Footer(compact=True, show_command_palette=False)

    def body(self) -> ComposeResult:
        yield from ()

    def action_leave(self) -> None:
        self.dismiss()


class TextPage(Page):
    """A page of text that may be set again while it is open."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "scroll(1)", "Down", show=False),
        Binding("k,up", "scroll(-1)", "Up", show=False),
    ]

    def __init__(self, title: str, text: Content) -> None:
        super().__init__(title)
        self.text = Static(text)

    def body(self) -> ComposeResult:
        with VerticalScroll(can_focus=False):
            yield self.text

    def action_scroll(self, by: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)
