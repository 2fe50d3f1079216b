"""The agent as a real process: real ranks, a fake daemon on a unix socket, a fake metadata service."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import psutil
import pytest

from tests.support.agent import FOREVER, PYTHON, SAVER, agent, rank_of, reporter, says

# -- a life --------------------------------------------------------------------------------------------------------


def test_a_rank_is_started_heard_and_reported(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        home = running.home
        home.start(
            reporter(
                'print("hello"); tell(event="ready", step=0); tell(event="step", step=1, loss=2.5, steps=9);'
                'tell(event="saved", step=1, uri="file:///c", write_ms=3); tell(event="done", step=1)'
            )
        )
        ended = home.fact("exited")
        says(running, b"hello\n")
        assert home.kinds("telemetry") == ["started", "progress", "saved", "exited"]
        first = home.fact("progress")
        assert (first["step"], first["loss"], first["steps"], first["first"]) == (1, 2.5, 9, True)
        assert home.fact("saved")["uri"] == "file:///c"
        assert (ended["exits"], ended["drained"], ended["hung"], ended["tail"]) == ({"0": 0}, False, False, "hello\n")
        hello = home.hellos[0]
        assert (hello["node"], hello["metadata"]["instance"], hello["running"]) == ("launch.3", "i-0123", [])


def test_a_rank_finds_the_contract_in_its_environment_and_nothing_of_the_agents_secrets(tmp_path: Path) -> None:
    with agent(tmp_path, env={"AWS_SECRET_ACCESS_KEY": "of the agent"}) as running:
        home = running.home
        home.start(
            f"{PYTHON} -c 'from os import *; import json; "
            'print(json.dumps(dict(environ)), path.isfile(environ["DSCHED_CONTROL"]))\'',
            ranks=[4, 5],
            world_size=8,
            master_addr="10.0.0.9",
            master_port=1234,
            resume="1",
            env={"MINE": "yes", "DSCHED_JOB": "forged"},
            generation=7,
        )
        home.fact("exited", exits={"4": 0, "5": 0})
        home.wait(lambda: home.log(generation=7, rank=5).endswith(b"\n"))
        text, control = home.log(generation=7, rank=5).decode().rsplit(" ", 1)
        env = json.loads(text)
        wanted = {
            "DSCHED_JOB": "job",
            "DSCHED_GENERATION": "7",
            "DSCHED_CHECKPOINT": "file:///nowhere",
            "DSCHED_RESUME": "1",
            "RANK": "5",
            "LOCAL_RANK": "1",
            "WORLD_SIZE": "8",
            "MASTER_ADDR": "10.0.0.9",
            "MASTER_PORT": "1234",
            "MINE": "yes",
        }
        assert wanted.items() <= env.items()
        assert control == "True\n"
        assert not {"AWS_SECRET_ACCESS_KEY", "DSCHED_METADATA"} & env.keys()


def test_ranks_stand_behind_everything_else_on_the_machine(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start(
            f"{PYTHON} -c 'import os, resource, signal; print(os.sched_getscheduler(0) == os.SCHED_IDLE, "
            f'open("/proc/self/oom_score_adj").read().strip(), resource.getrlimit(resource.RLIMIT_CORE), '
            "signal.getsignal(signal.SIGPIPE) in (signal.SIG_DFL, signal.SIG_IGN))'"
        )
        running.home.fact("exited")
        says(running, b"True 500 (0, 0) True\n")


def test_a_command_that_does_not_exist_ends_with_127_and_the_reason(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start("nosuchcommand --now")
        ended = running.home.fact("exited")
        assert ended["exits"] == {"0": 127}
        assert "nosuchcommand" in ended["tail"]


def test_hostile_output_arrives_byte_by_byte(tmp_path: Path) -> None:
    hostile = bytes(range(256)) * 64 + b"\x1b]0;title\x07[/bold]\xff\xfe"
    (tmp_path / "hostile").write_bytes(hostile)
    with agent(tmp_path) as running:
        running.home.start(f"cat {tmp_path}/hostile; exit 3")
        ended = running.home.fact("exited")
        running.home.wait(lambda: len(running.home.log()) >= len(hostile))
        assert running.home.log() == hostile
        assert "\ufffd" in ended["tail"]


def test_many_steps_travel_as_one_progress_and_the_last_one_counts(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start(
            reporter('[tell(event="step", step=n, loss=float("nan") if n == 200 else 1.0) for n in range(1, 201)]')
        )
        running.home.fact("exited")
        told = [fact for fact in running.home.facts if fact["kind"] == "progress"]
        assert [fact["step"] for fact in told] == [1, 200]
        assert "loss" not in told[-1]


def test_control_reaches_the_running_job(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start('until grep -q \'"interval_ms": 7, "checkpoint": 1\' "$DSCHED_CONTROL"; do sleep 0.01; done')
        running.home.fact("started")
        running.home.order("control", job="job", generation=1, interval_ms=7, checkpoint_now=True)
        running.home.fact("exited", exits={"0": 0})


# -- generations ---------------------------------------------------------------------------------------------------


def test_an_older_generation_is_refused_and_a_repeat_changes_nothing(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        home = running.home
        home.start(SAVER, generation=5)
        says(running, b"ready", generation=5)
        pid = rank_of(running).pid
        home.start(f"touch {tmp_path}/ran", generation=4)
        refused = home.fact("exited", generation=4)
        assert (refused["exits"], refused["drained"]) == ({}, True)
        home.start(SAVER, generation=5)
        home.wait(lambda: len([f for f in home.facts if f["kind"] == "started"]) == 2)
        assert rank_of(running).pid == pid
        assert not (tmp_path / "ran").exists()


def test_a_newer_generation_starts_when_the_older_is_reaped(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        home = running.home
        home.start(SAVER, generation=1)
        says(running, b"ready")
        home.start(SAVER, generation=2)
        home.fact("started", generation=2)
        assert home.kinds("telemetry", "progress") == ["started", "exited", "started"]
        assert home.fact("exited")["exits"] == {"0": 75}


def test_a_stop_that_overtakes_its_start_keeps_it_from_running(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        home = running.home
        home.stop(generation=3)
        assert home.fact("exited", generation=3)["exits"] == {}
        home.start("echo never", generation=3)
        home.start("echo four", generation=4)
        home.fact("exited", generation=4)
        assert "started" not in [f["kind"] for f in home.facts if f.get("generation") == 3]


# -- places --------------------------------------------------------------------------------------------------------


def test_a_long_node_directory_still_gives_a_socket_that_fits(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / "node"
    dead = Path("/tmp/dsched-0123456789abcdef")
    dead.symlink_to(tmp_path / "gone")
    with agent(tmp_path, env={"DSCHED_NODE_DIR": str(deep)}) as running:
        running.home.start(reporter('tell(event="step", step=1); print(os.environ["DSCHED_SOCKET"]); signal.pause()'))
        running.home.fact("progress", step=1)
        says(running, b"\n")
        short = Path(running.home.log().decode().strip()).parent
        assert short.is_dir()
        assert not dead.is_symlink()  # of a node that was killed together with its guard
        running.kill()
        assert running.gone()
        assert not short.is_symlink()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs a PID namespace")
def test_as_pid_1_the_agent_reaps_orphans_and_obeys_sigterm(tmp_path: Path) -> None:
    with agent(tmp_path, wrap=("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")) as running:
        running.home.start(f"(setsid true &); (env -i setsid {FOREVER} &); echo ready; {SAVER}")
        says(running, b"ready\nready")
        inner = psutil.Process(running.process.pid).children()[0]
        inner.send_signal(signal.SIGTERM)
        assert running.wait() == 0
        assert running.home.hellos[0]["pid"] == 1
        assert running.home.fact("exited")["exits"] == {"0": 75}
        assert not [p for p in psutil.process_iter() if p.status() == psutil.STATUS_ZOMBIE and p.ppid() == inner.pid]
