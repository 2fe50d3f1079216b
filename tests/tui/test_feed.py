"""The connection: first contact, deltas, silence, loss and return."""

from __future__ import annotations

from dsched.tui.board import Board, News
from dsched.tui.feed import LOST_S, STALE_S
from dsched.tui.source import SourceError
from tests.tui import fleet
from tests.tui.fake import FakeDaemon, running


async def test_without_a_daemon_the_screen_says_what_to_do_and_comes_alive_when_it_answers() -> None:
    daemon = FakeDaemon(None)
    async with running(daemon) as run:
        await run.until(lambda: "no daemon answers" in run.text())
        assert "systemctl start dsched" in run.text()
        assert "Cancel" not in run.text()
        await run.press("j", "x", "slash", "3")
        assert run.app.screen is run.main
        daemon.first = fleet.snapshot()
        await run.until(lambda: "moe-ft" in run.text())
        assert "live" in run.text()
        assert "Cancel" in run.text()


async def test_a_silent_daemon_turns_the_header_stale_instead_of_freezing_it() -> None:
    async with running() as run:
        assert "● live" in run.text()
        run.clock.seconds += STALE_S + 9
        run.main.second()
        await run.settle()
        assert "▲ stale 12s" in run.text()
        await run.push(fleet.feed([fleet.job(12, name="back-again", burn="99.00")]))
        run.main.second()
        await run.settle()
        assert "● live" in run.text()
        assert STALE_S < LOST_S


async def test_after_a_loss_the_rows_stay_and_a_new_snapshot_replaces_them() -> None:
    async with running() as run:
        run.clock.seconds += 1
        run.daemon.first = fleet.feed([fleet.job(77, name="the-only-one")])
        run.daemon.frames.put_nowait(SourceError("the daemon at /run/dsched/api.sock went away"))
        await run.settle()
        assert "stale" in run.text()
        assert "moe-ft" in run.text()
        await run.until(lambda: "the-only-one" in run.text())
        assert "moe-ft" not in run.text()
        assert run.daemon.connects == 2


async def test_a_stream_that_ends_is_opened_again() -> None:
    async with running() as run:
        run.daemon.frames.put_nowait(None)
        await run.until(lambda: run.daemon.connects == 2)


async def test_a_snapshot_in_mid_stream_replaces_everything() -> None:
    async with running() as run:
        run.daemon.frames.put_nowait(("resync", None))
        run.daemon.frames.put_nowait(("snapshot", fleet.feed([fleet.job(77, name="the-only-one")])))
        await run.until(lambda: "the-only-one" in run.text())
        assert list(run.app.session.board.jobs) == ["j77"]
        assert run.daemon.connects == 1


async def test_fields_that_we_do_not_know_are_ignored() -> None:
    async with running() as run:
        await run.push(fleet.feed([fleet.job(12, colour="red", burn="99.00")], weather="fine"))
        assert run.app.session.board.jobs["j12"]["burn"] == "99.00"


async def test_prices_that_are_old_and_a_cloud_that_fails_are_said_on_the_first_line() -> None:
    bad = fleet.health(
        providers={
            "aws": {"ok": False, "why": "credentials expired", "prices_age_s": 5_400.0, "nodes": 0},
            "gcp": {"ok": True, "why": "", "prices_age_s": 3.0, "nodes": 0},
        }
    )
    async with running(FakeDaemon(fleet.feed([fleet.job()], health=bad))) as run:
        first = run.text().splitlines()[0]
        assert "prices 1h old" in first
        assert "aws ✖ credentials expired" in first
        assert "gcp ✔" in first
        assert "replayed market, 600x" in first


def test_news_that_was_not_taken_yet_is_merged_to_the_newest_row() -> None:
    news = News()
    news.add(fleet.feed([fleet.job(1, step=1), fleet.job(2)]), snapshot=True)
    news.add(fleet.feed([fleet.job(1, step=2)], gone=["j2"]), snapshot=False)
    news.add(fleet.feed([fleet.job(3)]), snapshot=False)
    board = Board()
    board.apply(news, 0)  # type: ignore[arg-type]
    assert {i: j["step"] for i, j in board.jobs.items()} == {"j1": 2, "j3": 48_210}
    again = News()
    again.add(fleet.feed([fleet.job(2)]), snapshot=False)
    again.add(fleet.feed(gone=["j2", "j1"]), snapshot=False)
    again.add(fleet.feed([fleet.job(1, step=9)]), snapshot=False)
    board.apply(again, 0)  # type: ignore[arg-type]
    assert {i: j["step"] for i, j in board.jobs.items()} == {"j1": 9, "j3": 48_210}


def test_events_are_kept_in_a_bounded_number_and_the_oldest_go() -> None:
    board = Board()
    for start in (1, 2_001):
        news = News()
        news.add(fleet.feed(events=[fleet.event(start + i) for i in range(2_000)]), snapshot=False)
        changed = board.apply(news, 0)  # type: ignore[arg-type]
    assert (len(board.events), next(iter(board.events))) == (2_000, "2001")
    assert "1" in changed.events


def test_sums_over_jobs_follow_every_change() -> None:
    board = Board()
    news = News()
    news.add(
        fleet.feed([fleet.job(1, interruptions=2, moves=3), fleet.job(2, interruptions=1, moves=1)]), snapshot=True
    )
    board.apply(news, 0)  # type: ignore[arg-type]
    assert (board.interruptions, board.moves) == (3, 4)
    news = News()
    news.add(fleet.feed([fleet.job(1, interruptions=5, moves=3)], gone=["j2"]), snapshot=False)
    board.apply(news, 0)  # type: ignore[arg-type]
    assert (board.interruptions, board.moves) == (5, 3)
