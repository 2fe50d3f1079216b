"""Foreign text: ten thousand hostile strings through every widget, and not one control byte reaches the terminal."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterable

from textual.content import Content

from dsched.scheduler.core.units import Instant, Moment
from dsched.tui.acting import Acting
from dsched.tui.feed import Link
from dsched.tui.question import dry_run, question
from dsched.tui.screens import explain
from dsched.tui.screens.confirm import Confirm
from dsched.tui.screens.log import Log
from dsched.tui.widgets.absent import absent
from dsched.tui.widgets.cards import cards
from dsched.tui.widgets.detail import Story, detail
from dsched.tui.widgets.log_view import LogView
from dsched.tui.widgets.status_line import status
from dsched.tui.widgets.ticker import tick
from tests.tui import fleet
from tests.tui.fake import FakeDaemon, Run, running

COUNT = 10_000
NOW = Moment(Instant(fleet.WALL), Instant(fleet.MARKET))
ATTACKS = (
    "\x1b]0;owned\x07", "\x1b[2J\x1b[H", "\x1b]52;c;cm0gLXJmIC8=\x07", "\x9b31m", "[/bold]", "[b",
    "[@click=app.quit]x[/]",
    "\u202egnp.exe", "\u2066a\u2069", "a\u200bb", "\r\nfake line", "\x00", "\x7f", "$text-error", "\\[b]", "{x}", "%s",
    "\ufeff", "\U000e0041", "日本語", "👩‍👩‍👧", "e\u0301" * 9, "\u2028", "\x85", "A" * 500, "", " ",
)  # fmt: skip


def hostile(count: int = COUNT) -> list[str]:
    dice = random.Random(11)
    return [
        "".join(
            dice.choice(ATTACKS) if dice.random() < 0.5 else chr(dice.choice((dice.randrange(0xD800), 27, 155)))
            for _ in range(dice.randrange(1, 6))
        )
        for _ in range(count)
    ]


def controls(text: str) -> list[str]:
    """What may move, hide or rewrite on a terminal. A line break between lines of ours is no part of a line."""
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs") and c != "\n"]


def check(contents: Iterable[Content]) -> None:
    for content in contents:
        assert controls(content.plain) == [], repr(content.plain)


def bad_job(text: str, number: int = 12) -> object:
    return fleet.job(
        number, name=text, user=text, reason=text, where=text, next=text, shape=text, accelerator=text, decision=text,
        state="failed" if number % 2 else text,
    )  # fmt: skip


def test_every_text_of_ours_is_clean_whatever_the_daemon_says() -> None:
    link = Link(state="lost")
    for text in hostile():
        job = bad_job(text)
        event = fleet.event(1, text, text, job=text, node=text)
        attempt = fleet.attempts()[0] | {"where": text, "outcome": text}
        line = fleet.line(0, offer=text, why=text, verdict=text, code=text)
        plan = fleet.plan(summary=text, need=text, policy=text, id=text, lines=[line], refused={text: 1}, chosen=text)
        said = fleet.health(market_note=text, providers={text: {"ok": False, "why": text, "prices_age_s": 1.0}})
        asks = [question("cancel", [job]), question("pause", [job, job])]  # type: ignore[list-item]
        asks.append(question("migrate", [job], {"j12": dry_run({"plan": plan, "gain": {"per_hour": "1.00"}})}))  # type: ignore[list-item]
        check(
            [
                detail(job, Story([attempt], [event]), fleet.offer(0, id=text), NOW, 40),  # type: ignore[arg-type,list-item]
                tick(event),
                status(link, said, address=text, now=0.0, width=10_000, frozen=True, readonly=True),
                absent(Link(state="lost", why=text, remedy=text), text, 1),
                explain.head(plan, NOW),
                explain.why(line),
                *(Content(q.title) for q in asks),
                *(Content.assemble(*line) for q in asks for line in q.lines),
            ]
        )


async def test_tables_full_of_hostile_rows_paint_no_control_byte() -> None:
    texts = hostile()
    rows = [bad_job(text, 1_000 + i) for i, text in enumerate(texts)]
    offers = [
        fleet.offer(0, id=f"o{i}{t}", provider=t, zone=t, shape=t, accelerator=t, cool_s=9.0, cool_why=t)
        for i, t in enumerate(texts)
    ]
    events = [fleet.event(i, t, t, job=t, node=t) for i, t in enumerate(texts[:2_000])]
    async with running(FakeDaemon(fleet.feed(rows, offers=offers, events=events)), size=(200, 50)) as run:  # type: ignore[arg-type]
        for name, table in run.main.tables.items():
            run.main.action_tab(name)
            await run.settle()
            for index in range(len(table.order.ids)):
                strip = table._line(index)
                assert controls(strip.text) == [], repr(strip.text)
                assert strip.cell_length == table.size.width


async def painted(run: Run) -> None:
    await run.settle()
    assert controls(run.text()) == []


async def test_hostile_text_passes_every_screen_without_crash_or_control_byte() -> None:
    texts = hostile(80)
    for start in range(0, len(texts), 40):
        some = texts[start : start + 40]
        worst = "".join(some)[:300]
        rows = [bad_job(t, 100 + i) for i, t in enumerate(some)]
        daemon = FakeDaemon(fleet.feed(rows, events=[fleet.event(1, worst, worst, job="j100")]))  # type: ignore[arg-type]
        daemon.plans = [fleet.plan(summary=worst, need=worst, lines=[fleet.line(0, offer=worst, why=worst)])]
        daemon.lines = [{"generation": 1, "rank": 0, "offset": i, "text": t} for i, t in enumerate(some)]
        async with running(daemon, size=(176, 48)) as run:
            await painted(run)
            for key in ("e", "l", "enter", "question_mark"):
                await run.press(key)
                await run.until(lambda run=run: run.app.screen is not run.main)  # type: ignore[misc]
                await painted(run)
                await run.press("escape")
            run.app.push_screen(Confirm(question("cancel", [rows[0]])))  # type: ignore[list-item]
            await painted(run)
            await run.press("n")
            run.main.say(worst, warn=True)
            await painted(run)
            run.main.filters["jobs"] = worst
            run.main.draw_tabs()
            await painted(run)
            run.main.action_filter()
            await painted(run)


async def test_a_log_full_of_escape_sequences_shows_them_as_text() -> None:
    daemon = FakeDaemon(fleet.snapshot(1))
    texts = hostile(2_000)
    daemon.lines = [{"generation": 1, "rank": 0, "offset": i, "text": t + "\n"} for i, t in enumerate(texts)]
    async with running(daemon, size=(100, 30)) as run:
        run.app.push_screen(Log(fleet.job(), daemon))
        await run.until(lambda: isinstance(run.app.screen, Log) and "end of the log" in run.text())
        view = run.app.screen.query_one(LogView)
        assert len(view.lines) > 2_000
        assert [t for t, _ in view.lines if controls(t)] == []


def test_cards_hold_a_budget_with_any_name() -> None:
    from dsched.tui.board import Board

    board = Board()
    board.health = fleet.health()
    for text in hostile(1_000):
        for limit in (None, "10.00"):
            board.money = fleet.money(budgets=[fleet.budget(name=text, limit=limit, used=0.5 if limit else None)])
            for card in cards(board, 20):
                check([Content.assemble(*part) for part in (card.brief, card.head, card.foot)])


def test_nothing_in_the_house_sends_foreign_text_through_markup() -> None:
    from pathlib import Path

    import dsched.tui

    assert Acting.say is not None
    for source in Path(next(iter(dsched.tui.__path__))).rglob("*.py"):
        text = source.read_text()
        for forbidden in ("from_markup", "RichLog", "DataTable(", "$text-muted", "rich.text"):
            assert forbidden not in text, f"{source.name} uses {forbidden}"
        assert text.count(".notify(") == text.count("markup=False"), source.name
