"""Every screen as text, at three sizes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import textshot
from tests.tui import fleet
from tests.tui.fake import FakeDaemon, Run, running

HERE = Path(__file__).parent / "snapshots"
SIZES = ((80, 24), (120, 30), (176, 48))
WIDE = 150


def check(run: Run, name: str, size: tuple[int, int]) -> None:
    textshot.check(HERE / f"{name}_{size[0]}x{size[1]}.txt", run.text())


async def choose(run: Run, job: str) -> None:
    """The cursor on one job, and its story told where there is room for it."""
    run.main.tables["jobs"].go(job)
    await run.settle()
    if run.app.size.width >= WIDE:
        await run.until(lambda: run.main._story[0] == job and bool(run.main._story[2].attempts))
    await run.until(lambda: run.app.session.board.money is not None)
    run.main.second()
    await run.settle()


@pytest.mark.parametrize("size", SIZES)
async def test_jobs(size: tuple[int, int]) -> None:
    async with running(size=size) as run:
        await choose(run, "j12")
        check(run, "jobs", size)


@pytest.mark.parametrize("size", SIZES)
async def test_market(size: tuple[int, int]) -> None:
    async with running(size=size) as run:
        await choose(run, "j12")
        await run.press("2", "j")
        check(run, "market", size)


@pytest.mark.parametrize("size", SIZES[:2])
async def test_events(size: tuple[int, int]) -> None:
    async with running(size=size) as run:
        await choose(run, "j12")
        await run.press("3")
        check(run, "events", size)


@pytest.mark.parametrize("size", SIZES[:2])
async def test_explain(size: tuple[int, int]) -> None:
    async with running(size=size) as run:
        await choose(run, "j12")
        await run.press("e")
        await run.until(lambda: "cheapest to finish" in run.text())
        check(run, "explain", size)


@pytest.mark.parametrize("action", ["cancel", "migrate"])
async def test_questions(action: str) -> None:
    async with running(size=(80, 24)) as run:
        await choose(run, "j12")
        await run.press({"cancel": "x", "migrate": "m"}[action])
        await run.until(lambda: "Leave it" in run.text())
        check(run, action, (80, 24))


async def test_help() -> None:
    async with running(size=(120, 60)) as run:
        await choose(run, "j12")
        await run.press("question_mark")
        check(run, "help", (120, 60))


async def test_detail_page() -> None:
    async with running(size=(80, 48)) as run:
        await choose(run, "j12")
        await run.press("enter")
        await run.until(lambda: "attempts" in run.text())
        run.main.second()
        await run.settle()
        check(run, "detail", (80, 48))


async def test_log() -> None:
    daemon = FakeDaemon(fleet.snapshot())
    daemon.lines = [
        {"generation": g, "rank": 0, "offset": 100 * s, "text": f"step {s} loss {2 - s / 100_000:.3f}\n"}
        for g, s in ((3, 48_118), (3, 48_119), (4, 48_120), (4, 48_121))
    ]
    async with running(daemon, size=(80, 24)) as run:
        await choose(run, "j12")
        await run.press("l")
        await run.until(lambda: "end of the log" in run.text())
        check(run, "log", (80, 24))


async def test_no_daemon() -> None:
    async with running(FakeDaemon(None), size=(80, 24)) as run:
        await run.until(lambda: "no daemon answers" in run.text())
        text = re.sub(r"tried [0-9]+ times?", "tried N times", run.text())
        assert "systemctl start dsched" in text
        textshot.check(HERE / "absent_80x24.txt", text)
