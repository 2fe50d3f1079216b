"""`dsched top`: the fleet, the market and what happens, live in a terminal.

python -m dsched.tui.app [--server ADDR] [--readonly]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Final

from textual import on
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.theme import Theme

from dsched.scheduler.wire.address import socket_path
from dsched.scheduler.wire.api import Money
from dsched.tui import probe
from dsched.tui.daemon import Daemon
from dsched.tui.feed import Feed, Link
from dsched.tui.keys import MAIN
from dsched.tui.messages import Fed, HistoryCame, Linked, MoneyCame
from dsched.tui.screens.main import Main
from dsched.tui.session import Session

USAGE: Final = 2  # exit code: the command line is wrong
THEME: Final = Theme(
    name="dsched",
    primary="#4F8CFF",
    secondary="#7AA2F7",
    accent="#B48EFF",
    warning="#FFB454",
    error="#FF6B81",
    success="#3DDC97",
    background="#0B0E14",
    surface="#10141D",
    panel="#161B26",
    foreground="#C8D0E0",
)


class Top(App[None]):
    TITLE = "dsched top"
    CSS_PATH = Path(__file__).with_name("top.tcss")  # absolute, so that a profiler may run this module
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+c", "quit", "Quit", show=False)]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.feed = Feed(session.source, self.post_message, clock=session.clock, pace=session.pace)
        self.main = Main(session, self.link, self.fed)

    def link(self) -> Link:
        return self.feed.link

    def on_mount(self) -> None:
        self.register_theme(THEME)
        self.theme = THEME.name
        self.push_screen(self.main)
        self.run_worker(self.feed.run(), group="feed")
        probe.start(self)

    @on(Fed)
    def fed(self) -> None:
        if self.session.frozen or not self.main.is_mounted:
            return
        self.main.apply(self.session.board.apply(self.feed.take(), self.session.wall()))

    @on(Linked)
    def linked(self) -> None:
        if self.main.is_mounted:
            self.main.linked()

    @on(MoneyCame)
    def money(self, event: MoneyCame) -> None:
        money: Money = event.money
        self.session.board.money = money

    @on(HistoryCame)
    def history(self, event: HistoryCame) -> None:
        changed = self.session.board.learn_history(event.offers)
        self.main.tables["market"].changed(changed)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette holds what the keys do, as far as it can be done now."""
        for binding in MAIN:
            action = binding.action
            name, _, rest = action.partition("(")
            if screen is self.main and name != "palette" and self.main.check_action(name, (rest,)):
                yield SystemCommand(
                    binding.description, f"key {binding.key_display or binding.key}", self._runner(action)
                )

    def _runner(self, action: str) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            await self.main.run_action(action)

        return run


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dsched top", description="The fleet, the market and what happens, live.")
    parser.add_argument(
        "--server", default=None, metavar="ADDR", help="the daemon's socket [DSCHED_SERVER, DSCHED_STATE]"
    )
    parser.add_argument("--readonly", action="store_true", help="without the keys that change something")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    asked = arguments(sys.argv[1:] if argv is None else argv)
    try:
        path = socket_path(asked.server, os.environ)
    except ValueError as error:
        sys.stderr.write(f"dsched top: {error}\n")
        return USAGE
    Top(Session(source=Daemon(path), readonly=asked.readonly)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
