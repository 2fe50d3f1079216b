"""How ranks end under a real agent: asked, killed, hung, or escaped, and what is told of it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import psutil
import pytest

from tests.support.agent import DEAF, FOREVER, PYTHON, SAVER, agent, rank_of, reporter, says


def test_a_stop_lets_the_rank_save_and_is_no_failure_of_its_own(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start(SAVER)
        says(running, b"ready")
        running.home.stop()
        ended = running.home.fact("exited")
        assert (ended["exits"], ended["drained"]) == ({"0": 75}, True)
        says(running, b"saved")


def test_a_rank_that_ignores_sigterm_is_killed_after_the_grace_and_not_before(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start(DEAF)
        says(running, b"ready")
        asked = time.monotonic()
        running.home.stop(grace_ms=300)
        ended = running.home.fact("exited")
        assert (ended["exits"], ended["drained"]) == ({"0": -9}, True)
        assert running.home.arrival(ended) - asked >= 0.3


def test_the_shell_may_die_of_the_sigterm_before_what_it_runs_has_saved(tmp_path: Path) -> None:
    saver = "signal.pthread_sigmask(0, {15}); print('ready'); signal.sigwait({15}); time.sleep(0.2); sys.exit(75)"
    (tmp_path / "saver.py").write_text(f"import signal, sys, time; {saver}")
    with agent(tmp_path) as running:
        running.home.start(f"{PYTHON} {tmp_path}/saver.py | cat; echo not this one")
        says(running, b"ready")
        running.home.stop()
        ended = running.home.fact("exited")
        assert (ended["exits"], ended["drained"]) == ({"0": 75}, True)


def test_a_killed_rank_is_the_first_of_its_gang_in_the_report(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start(FOREVER, ranks=[0, 1, 2], world_size=3)
        running.home.fact("started")
        rank_of(running, 1).kill()
        ended = running.home.fact("exited")
        assert next(iter(ended["exits"])) == "1"
        assert (ended["exits"], ended["drained"]) == ({"1": -9, "0": -9, "2": -9}, False)


def test_ranks_that_are_done_leave_the_others_to_finish(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        first = f"{tmp_path}/pid"
        running.home.start(
            f'[ "$RANK" = 0 ] && exec sh -c "echo \\$\\$ > {first}"; '
            f"until [ -s {first} ] && ! kill -0 $(cat {first}) 2> {tmp_path}/gone; do sleep 0.01; done",
            ranks=[0, 1],
        )
        assert running.home.fact("exited")["exits"] == {"0": 0, "1": 0}


@pytest.mark.parametrize("escape", ["setsid", "env -i setsid", "setsid nohup env -u DSCHED_AGENT -u DSCHED_JOB"])
def test_what_left_its_session_does_not_outlive_the_report(tmp_path: Path, escape: str) -> None:
    code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(1000)"
    (tmp_path / "escapee.py").write_text(code)
    python = shutil.which("python3")
    with agent(tmp_path) as running:
        running.home.start(
            f"({escape} {python} -S {tmp_path}/escapee.py {tmp_path}/pid &); "
            f"until [ -s {tmp_path}/pid ]; do sleep 0.01; done"
        )
        running.home.fact("exited")
        assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_a_silent_idle_job_that_had_spoken_is_killed_as_hung(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start(reporter('tell(event="step", step=1); signal.pause()'), hang_ms=300)
        ended = running.home.fact("exited")
        assert (ended["hung"], ended["exits"], ended["drained"]) == (True, {"0": -9}, False)
        assert "hung" in ended["tail"]


@pytest.mark.parametrize(
    "quiet",
    [
        "until [ -e go ]; do sleep 0.05; done",
        reporter(
            'import time, pathlib\ntell(event="step", step=1)\nwhile not pathlib.Path("go").exists(): sum(range(1000))'
        ),
    ],
)
def test_a_plain_command_and_a_busy_one_are_not_hung(tmp_path: Path, quiet: str) -> None:
    with agent(tmp_path) as running:
        running.home.start(quiet, hang_ms=200)
        running.home.start("sleep 0.8", job="clock")  # four times the limit
        running.home.fact("exited", job="clock")
        (running.node_dir / "work/job/go").touch()
        assert running.home.fact("exited", job="job")["exits"] == {"0": 0}
