"""Five cards of truth: burn, saving, jobs, interruptions, budget. One line on a short screen, boxes on a tall one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from dsched.scheduler.view import format as f
from dsched.scheduler.view.money import budget_state
from dsched.scheduler.view.safe import show
from dsched.scheduler.wire.api import Budget, Health, Money
from dsched.tui.board import Board
from dsched.tui.view import STYLES, Part
from dsched.tui.widgets.spark import spark

NAMES: Final = ("burn", "saved vs on-demand", "jobs", "interruptions", "budget")
_DIM: Final = STYLES["dim"]
_EXACT: Final = 10_000  # dollars


@dataclass(frozen=True, slots=True)
class Card:
    brief: list[Part]  # the only line where there is no room
    head: list[Part]
    foot: list[Part]


def cards(board: Board, width: int) -> tuple[Card, ...]:
    """In the order of NAMES; `width` is the room inside one."""
    return (
        _burn(board.health, list(board.burn), width),
        _saved(board.money),
        _jobs(board.health),
        _interruptions(board),
        _budget(board.money, width),
    )


def _burn(health: Health | None, samples: Sequence[float], width: int) -> Card:
    if health is None:
        return _unknown("burn")
    text = f.dollars(health["burn"])
    line = spark(samples, width, low=0.0)
    return Card([("burn ", _DIM), (f"{text}/h", "bold")], [(text, "bold"), (" /h", _DIM)], [(line, "$accent 70%")])


def _saved(money: Money | None) -> Card:
    if money is None:
        return _unknown("saved")
    share = f.percent(f.saved_share(money["saved"], money["baseline"]))
    tone = STYLES["good" if Decimal(money["saved"]) > 0 else "warn" if Decimal(money["saved"]) < 0 else ""]
    text = brief(money["saved"])
    return Card(
        [("saved ", _DIM), (share, f"bold {tone}"), (f" {text}", "")],
        [(share, f"bold {tone}"), (f"  {text}", "")],
        [(f"paid {brief(money['spent'])} of {brief(money['baseline'])}", _DIM)],
    )


def _jobs(health: Health | None) -> Card:
    if health is None:
        return _unknown("jobs")
    count = health["jobs"]
    running, waiting = count.get("running", 0), count.get("queued", 0) + count.get("held", 0)
    moving = count.get("starting", 0) + count.get("draining", 0)
    failed = count.get("failed", 0)
    paused = count.get("paused", 0)
    foot = [(f"✖ {failed:,} failed", STYLES["bad"])] if failed else [(f"◐ {moving:,} moving ‖ {paused:,} off", _DIM)]
    head = [(f"● {running:,}", f"bold {STYLES['good']}"), (" run", ""), (f"  ○ {waiting:,} wait", "")]
    return Card([("jobs ", _DIM), (f"● {running:,}", STYLES["good"]), (f" ○ {waiting:,}", "")], head, foot)


def _interruptions(board: Board) -> Card:
    count = f"{board.interruptions:,}"
    moves = f"{board.moves:,} move{'' if board.moves == 1 else 's'}"
    return Card(
        [("intr ", _DIM), (count, "bold")], [(count, "bold"), (" by the cloud", _DIM)], [(f"{moves} in all", _DIM)]
    )


def _budget(money: Money | None, width: int) -> Card:
    budget = _fullest(money["budgets"]) if money is not None else None
    if budget is None:
        return _unknown("budget")
    if budget["limit"] is None:
        text = brief(budget["spent"])
        return Card(
            [("budget ", _DIM), (text, "")], [(text, "bold")], [(f"{show(budget['name'], 20)}: no limit", _DIM)]
        )
    word = budget_state(budget)
    tone = STYLES[f.tone(word)]
    glyph = f.STATES[word][0]
    used = f.percent(budget["used"])
    money_text = f"{brief(budget['spent'])} of {brief(budget['limit'])}"
    bar = f.bar(budget["used"], max(4, width - len(used) - 3))
    return Card(
        [("budget ", _DIM), (f"{glyph} {used}", tone)],
        [(money_text, "bold")],
        [(f"{glyph} ", tone), (bar.rstrip("─"), tone), ("─" * bar.count("─"), "$foreground 35%"), (f" {used}", "")],
    )


def _fullest(budgets: Sequence[Budget]) -> Budget | None:
    """The one that will stop work first."""
    return max(budgets, key=lambda b: (b["used"] is not None, b["used"] or 0.0), default=None)


def brief(amount: str) -> str:
    """Dollars for a box of twenty cells: cents until ten thousand, then three digits. Tables have the exact sum."""
    value = Decimal(amount)
    return f.dollars(amount) if abs(value) < _EXACT else f"${f.short(float(value))}"


def _unknown(name: str) -> Card:
    return Card([(f"{name} {f.UNKNOWN}", _DIM)], [(f.UNKNOWN, _DIM)], [])


class Cards(Horizontal):
    DEFAULT_CSS = """
    Cards { height: 4; padding: 0; }
    Cards > Static {
        width: 1fr; height: 4; border: round $primary 40%; border-title-color: $foreground 60%; padding: 0 1;
        text-wrap: nowrap; text-overflow: ellipsis;
    }
    """

    def compose(self) -> ComposeResult:
        for name in NAMES:
            card = Static(classes="late" if name == "interruptions" else "")
            card.border_title = name
            yield card

    def on_mount(self) -> None:
        self._boxes = list(self.query_children(Static))
        self._shown: list[Content | None] = [None] * len(self._boxes)

    def draw(self, board: Board) -> None:
        """Repaint the cards that read differently."""
        short = self.size.height < 4
        width = self._boxes[0].size.width if not short else 20
        for i, card in enumerate(cards(board, width)):
            content = Content.assemble(*card.brief) if short else Content.assemble(*card.head, "\n", *card.foot)
            if content != self._shown[i]:
                self._shown[i] = content
                self._boxes[i].update(content, layout=short)
