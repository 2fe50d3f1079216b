"""What the keys do: questions that name the money, read-only, filter, freeze, pages."""

from __future__ import annotations

import random

import pytest

from dsched.scheduler.wire.api import Act
from dsched.tui.keys import MAIN
from dsched.tui.screens.confirm import Confirm
from dsched.tui.source import SourceError
from dsched.tui.widgets.log_view import LogView
from tests.tui import fleet
from tests.tui.fake import FakeDaemon, Run, running


async def at(run: Run, job: str) -> None:
    run.main.tables["jobs"].go(job)
    await run.settle()


async def asked(run: Run, key: str) -> str:
    await run.press(key)
    await run.until(lambda: isinstance(run.app.screen, Confirm))
    return run.text()


async def test_cancel_asks_with_what_was_spent_what_burns_and_what_is_kept() -> None:
    async with running(size=(80, 24)) as run:
        await at(run, "j12")
        text = await asked(run, "x")
        for said in ("Cancel j12 moe-ft?", "$526.23", "$17.92/h", "step 48,120 is saved", "Leave it"):
            assert said in text
        assert run.daemon.acts == []
        await run.press("y")
        await run.until(lambda: bool(run.daemon.acts))
        assert run.daemon.acts == [("j12", "cancel", Act())]


@pytest.mark.parametrize("keys", [["enter"], ["n"], ["escape"]])
async def test_whatever_is_pressed_first_the_answer_that_changes_nothing_is_the_default(keys: list[str]) -> None:
    async with running() as run:
        await at(run, "j12")
        await asked(run, "x")
        await run.press(*keys)
        assert run.daemon.acts == []
        assert run.app.screen is run.main


async def test_migrate_shows_the_gain_of_a_dry_run_before_it_moves_anything() -> None:
    async with running() as run:
        await at(run, "j12")
        text = await asked(run, "m")
        assert run.daemon.acts == [("j12", "migrate", {"dry_run": True})]
        for said in ("aws/use2-az2 p5.48xlarge spot   $17.92/h", "aws/use1-az1", "$14.10/h", "gain", "$3.82/h"):
            assert said in text
        await run.press("y")
        await run.until(lambda: len(run.daemon.acts) == 2)
        assert run.daemon.acts[1] == ("j12", "migrate", Act())


async def test_a_migration_that_loses_money_says_so_in_words() -> None:
    async with running() as run:
        run.daemon.answers["gain"]["per_hour"] = "-3.20"
        await at(run, "j12")
        assert "it COSTS $3.20/h more" in await asked(run, "m")


async def test_a_migration_that_gains_nothing_offers_no_yes() -> None:
    async with running() as run:
        run.daemon.answers = {"plan": fleet.plan(chosen=fleet.pool(0)), "gain": {}}
        await at(run, "j12")
        text = await asked(run, "m")
        assert "nothing better" in text
        assert "y  Migrate" not in text
        await run.press("y")
        assert [a for a in run.daemon.acts if not a[2].get("dry_run")] == []


async def test_marked_jobs_are_asked_for_together_with_their_sums() -> None:
    async with running() as run:
        await at(run, "j136")
        await run.press("space", "space", "space")
        text = await asked(run, "x")
        assert "Cancel 3 jobs?" in text
        assert "$2,373.75" in text  # 1,344.49 + 852.91 + 176.35
        assert "$75.30/h" in text
        await run.press("y")
        await run.until(lambda: len(run.daemon.acts) == 3)
        assert run.main.tables["jobs"].marks == set()


async def test_a_refusal_of_the_daemon_is_told_and_nothing_else_happens() -> None:
    async with running() as run:
        await at(run, "j12")
        await asked(run, "p")
        run.daemon.refusal = SourceError("moe-ft has just ended", "")
        await run.press("y")
        await run.until(lambda: "moe-ft has just ended" in run.text())


async def test_an_action_that_the_state_does_not_allow_is_not_even_asked() -> None:
    async with running() as run:
        await at(run, "j12")
        await run.press("r")
        await run.until(lambda: "nothing to resume: moe-ft is running" in run.text())
        assert run.app.screen is run.main


async def test_a_read_only_session_has_none_of_the_keys_that_change_something() -> None:
    async with running(readonly=True) as run:
        text = run.text()
        assert "read-only" in text
        for word in ("Cancel", "Pause", "Migrate", "Resume"):
            assert word not in text
        await run.press("x", "m", "p", "r")
        assert run.app.screen is run.main
        await run.press("question_mark")
        assert "Cancel" not in run.text()
        assert not any("ancel" in c.title for c in run.app.get_system_commands(run.main))


async def test_help_lists_every_key_of_the_list_that_bindings_are_made_from() -> None:
    async with running(size=(120, 70)) as run:
        await run.press("question_mark")
        for binding in MAIN:
            assert binding.description in run.text()
        assert "eta<2h" in run.text()


async def test_the_palette_holds_what_the_keys_do() -> None:
    async with running() as run:
        titles = {c.title for c in run.app.get_system_commands(run.main)}
        assert {"Cancel", "Migrate", "Explain", "Log", "Filter", "Freeze the screen", "Quit"} <= titles
        await run.press("colon")
        await run.until(lambda: "Freeze the screen" in run.text() or "Cancel" in run.text())


async def test_a_filter_applies_while_it_is_typed_and_is_named_on_the_tab() -> None:
    async with running() as run:
        await run.press("slash", *"user:ana")
        shown = run.main.tables["jobs"].order.ids
        assert shown
        assert {run.app.session.board.jobs[i]["user"] for i in shown} == {"ana"}
        await run.press("enter")
        assert "/ user:ana" in run.text()
        assert f"1 Jobs {len(shown)} of 41" in run.text()
        await run.press("escape")
        assert "1 Jobs 41" in run.text()


async def test_a_mistyped_filter_is_explained_and_the_last_good_one_stays() -> None:
    async with running() as run:
        await run.press("slash", *"user:ana")
        before = list(run.main.tables["jobs"].order.ids)
        await run.press("space", *"stat:x")
        assert "did you mean state?" in run.text()
        assert run.main.tables["jobs"].order.ids == before


async def test_escape_and_a_key_right_after_it_mean_both_although_they_arrive_as_alt() -> None:
    async with running() as run:
        await run.press("slash", *"ana", "alt+j")
        assert run.main.bar.value == ""
        assert not run.main.bar.has_class("-on")
        assert run.main.tables["jobs"].cursor == 1
        await run.press("slash", *"ana", "enter")
        chosen = run.main.tables["jobs"].current
        await run.press("alt+j")
        assert not run.main.filters["jobs"]
        table = run.main.tables["jobs"]
        assert table.order.ids[table.cursor - 1] == chosen


async def test_a_frozen_screen_stands_still_and_catches_up_when_it_is_thawed() -> None:
    async with running() as run:
        await run.press("z")
        assert "frozen" in run.text()
        await run.push(fleet.feed([fleet.job(12, name="once")]))
        await run.push(fleet.feed([fleet.job(12, name="twice")]))
        assert "once" not in run.text()
        await run.press("z")
        assert "twice" in run.text()


async def test_escape_undoes_one_thing_at_a_time() -> None:
    async with running() as run:
        await run.press("z", "space", "slash", *"run", "enter")
        await run.press("escape")
        assert not run.main.filters["jobs"]
        assert run.main.tables["jobs"].marks
        await run.press("escape")
        assert not run.main.tables["jobs"].marks
        assert run.app.session.frozen
        await run.press("escape")
        assert not run.app.session.frozen


async def test_enter_on_an_event_goes_to_its_job() -> None:
    async with running() as run:
        await run.press("3", "enter")
        assert run.main.tab == "jobs"
        assert run.main.tables["jobs"].current == "j12"


async def test_a_click_on_a_tab_opens_it() -> None:
    async with running() as run:
        await run.pilot.click("Tabs", offset=(16, 0))
        await run.settle()
        assert run.main.tab == "market"


async def test_every_theme_draws_and_the_state_is_readable_in_each() -> None:
    async with running() as run:
        for _ in run.app.available_themes:
            await run.press("T")
            assert "● running" in run.text()
        assert run.app.theme == "dsched"


async def test_explain_steps_through_the_stored_plans_and_says_why_in_full() -> None:
    daemon = FakeDaemon(fleet.snapshot())
    daemon.plans = [fleet.plan(id="d-1", summary="the older plan"), fleet.plan()]
    async with running(daemon) as run:
        await at(run, "j12")
        await run.press("e")
        await run.until(lambda: "plan 2 of 2" in run.text())
        await run.press("j")
        assert "14% dearer: interrupted too often" in run.text().splitlines()[-2]
        await run.press("left_square_bracket")
        assert "the older plan" in run.text()
        await run.press("escape")
        assert run.app.screen is run.main


async def test_a_job_without_a_plan_says_so() -> None:
    daemon = FakeDaemon(fleet.snapshot())
    daemon.plans = []
    async with running(daemon) as run:
        await run.press("e")
        await run.until(lambda: "no plan is stored" in run.text())


async def test_a_log_follows_its_end_until_one_scrolls_up() -> None:
    daemon = FakeDaemon(fleet.snapshot())
    daemon.lines = [{"generation": 1, "rank": 0, "offset": i, "text": f"line {i}\n"} for i in range(500)]
    async with running(daemon, size=(80, 24)) as run:
        await at(run, "j12")
        await run.press("l")
        await run.until(lambda: "end of the log" in run.text())
        view = run.app.screen.query_one(LogView)
        await run.press("k")
        view.say("later")
        await run.until(lambda: not view._stale)
        assert "later" not in run.text()
        await run.press("G")
        await run.until(lambda: "later" in run.text())
        await run.pilot.resize_terminal(60, 12)
        await run.until(lambda: "later" in run.text())


async def test_a_monkey_at_the_keyboard_finds_no_crash_while_the_fleet_changes() -> None:
    dice = random.Random(5)
    known = [
        *"123/lempwzT:?jkgGsSnyx[]ab>!r",
        "escape",
        "enter",
        "space",
        "tab",
        "ctrl+f",
        "ctrl+b",
        "end",
        "up",
        "left",
    ]
    async with running(size=(160, 40)) as run:
        for turn in range(25):
            keys = [dice.choice(known) for _ in range(5)]
            await run.pilot.press(*keys)
            rows = [fleet.job(dice.randrange(100, 150), burn=f"{dice.random() * 30:.2f}") for _ in range(10)]
            run.clock.seconds += 1
            await run.push(fleet.feed(rows, gone=[f"j{dice.randrange(100, 150)}"]))
            if turn % 5 == 4:
                await run.pilot.resize_terminal(dice.randrange(20, 200), dice.randrange(5, 60))
        assert run.app.is_running
