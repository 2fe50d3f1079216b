"""The daemon goes away, forgets, refuses and dismisses: what a real agent keeps, tells and does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.agent import SAVER, agent, rank_of, reporter, says, until


def test_a_daemon_that_was_away_gets_everything_once_and_in_order(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        home = running.home
        lines = "".join(f"line {n}\n" for n in range(3_000))
        (tmp_path / "lines").write_text(lines)
        home.start(
            reporter(
                "import pathlib, time\n"
                "def await_file(name):\n  while not pathlib.Path(name).exists(): time.sleep(0.01)\n"
                'print("ready"); await_file("away")\n'
                f'print(open("{tmp_path}/lines").read(), end="")\n'
                '[tell(event="saved", step=n, uri="u") for n in range(5)]; open("said", "w"); await_file("back")'
            )
        )
        says(running, b"ready")
        work = running.node_dir / "work/job"
        home.down()
        (work / "away").touch()
        until(lambda: (work / "said").exists())
        home.lose_answers = 2
        home.up()
        home.wait(lambda: len(home.hellos) == 2)
        (work / "back").touch()
        home.fact("exited", exits={"0": 0})
        home.wait(lambda: len(home.log()) >= 6 + len(lines))
        assert home.log().decode() == "ready\n" + lines
        assert home.kinds("telemetry") == ["started", "saved", "saved", "exited"]
        assert [fact["step"] for fact in home.facts if fact["kind"] == "saved"] == [0, 4]  # the first and the last one
        assert home.hellos[1]["running"] == [{"job": "job", "generation": 1, "state": "running", "exits": {}}]


def test_a_forgotten_session_is_greeted_again_and_ranks_run_on(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start(SAVER)
        says(running, b"ready")
        pid = rank_of(running).pid
        running.home.forget()
        running.home.wait(lambda: len(running.home.hellos) == 2)
        assert running.home.hellos[0]["boot"] == running.home.hellos[1]["boot"]
        running.home.stop()
        assert running.home.fact("exited")["exits"] == {"0": 75}
        assert pid


@pytest.mark.parametrize("status", [410, 403])
def test_a_node_that_is_not_ours_any_more_saves_and_ends(tmp_path: Path, status: int) -> None:
    with agent(tmp_path) as running:
        running.home.start(SAVER.replace("echo saved", f"touch {tmp_path}/saved"))
        says(running, b"ready")
        running.home.status = status
        running.home.forget()
        assert running.wait() == 0
        assert (tmp_path / "saved").exists()


def test_a_log_that_the_daemon_refuses_costs_the_log_and_nothing_else(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.log_status = 403
        running.home.start("echo refused")
        running.home.fact("exited", exits={"0": 0})
        until(lambda: "logs.refused" in running.errors.read_text())
        running.home.log_status = 200
        running.home.start("echo taken", generation=2)
        running.home.wait(lambda: running.home.log(generation=2) == b"taken\n")


def test_leave_tells_everything_before_the_agent_ends(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start(SAVER)
        says(running, b"ready")
        running.home.order("leave", grace_ms=5_000)
        assert running.wait() == 0
        assert running.home.fact("exited")["exits"] == {"0": 75}
        assert running.home.log() == b"ready\nsaved\n"


def test_sigterm_to_the_agent_is_a_leave(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start(SAVER)
        says(running, b"ready")
        running.process.terminate()
        assert running.wait() == 0
        assert running.home.fact("exited")["exits"] == {"0": 75}
