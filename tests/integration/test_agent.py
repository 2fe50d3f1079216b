"""The agent as a real process: real ranks, a fake daemon on a unix socket, a fake metadata service."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.agent import AgentProcess, agent, until

PYTHON = f"{sys.executable} -ISu"  # starts in 10 ms
FOREVER = "exec sleep 1000"
DEAF = "trap '' TERM; echo ready; while :; do sleep 1000; done"
SAVER = "exec 2>/dev/null; trap 'echo saved; exit 75' TERM; echo ready; while :; do sleep 1000 & wait $!; done"

REPORTER = f"""{PYTHON} -c '
import json, os, signal, socket, sys
out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
def tell(**body): out.sendto(json.dumps(body).encode(), os.environ["DSCHED_SOCKET"])
{{}}
'"""


def reporter(code: str) -> str:
    """A rank that speaks: `tell(event=..., ...)` sends a datagram."""
    assert "'" not in code
    return REPORTER.replace("{}", code)


def rank_of(running: AgentProcess, rank: int = 0) -> psutil.Process:
    """The leader of a rank."""

    def leaders() -> list[psutil.Process]:
        mine = [p for p in running.survivors() if p.environ().get("RANK") == str(rank)]
        return [process for process in mine if os.getsid(process.pid) == process.pid]

    until(leaders)
    return leaders()[0]


def says(running: AgentProcess, text: bytes, **where: Any) -> None:
    running.home.wait(lambda: text in running.home.log(**where))


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


# -- ends ----------------------------------------------------------------------------------------------------------


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


# -- notices and the lease -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ["aws", "gcp"])
def test_at_a_notice_the_node_drains_by_itself_and_ends_at_the_deadline(tmp_path: Path, flavour: str) -> None:
    with agent(tmp_path, flavour=flavour) as running:
        home = running.home
        home.start("trap 'cat \"$DSCHED_CONTROL\"; exit 75' TERM; echo ready; while :; do sleep 1000 & wait $!; done")
        says(running, b"ready")
        running.meta.interrupt(2.5)
        ended = home.fact("exited")
        deadline = home.fact("noticed", what="interrupt")["deadline"]
        assert (ended["exits"], ended["drained"]) == ({"0": 75}, True)
        assert ended["at"] < deadline
        says(running, b"deadline_ms")
        told = json.loads(home.log()[home.log().index(b"{") :])["deadline_ms"]
        assert deadline - 1_100 <= told < deadline
        home.start("echo too late", generation=2)
        assert home.fact("exited", generation=2)["drained"]
        assert running.wait() == 0  # although every answer of the daemon extends the lease
        assert time.time() * 1_000 >= deadline - 5


def test_a_rank_that_ignores_the_notice_is_killed_before_the_deadline(tmp_path: Path) -> None:
    with agent(tmp_path, flavour="gcp") as running:
        running.home.start(DEAF)
        says(running, b"ready")
        running.meta.interrupt(1.5)
        ended = running.home.fact("exited")
        assert ended["exits"] == {"0": -9}
        assert ended["at"] < running.home.fact("noticed")["deadline"]


def test_a_rebalance_hint_is_told_and_stops_nothing(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start(SAVER)
        says(running, b"ready")
        running.meta.rebalance()
        running.home.fact("noticed", what="rebalance")
        running.home.start("echo on", job="other")
        running.home.fact("exited", job="other", exits={"0": 0})
        assert rank_of(running).is_running()


def test_a_notice_is_heard_with_an_expired_token(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        until(lambda: running.meta.tokens_granted == 2)  # one asks who it is, the other watches
        running.meta.forget_tokens()
        running.meta.interrupt(60)
        running.home.fact("noticed", what="interrupt")
        assert running.meta.tokens_granted == 3


def test_the_lease_ends_everything_although_the_daemon_is_silent_and_the_rank_deaf(tmp_path: Path) -> None:
    with agent(tmp_path, lease_ms=2_000, drain_ms=500) as running:
        running.home.start(DEAF)
        says(running, b"ready")
        running.home.down()
        assert running.wait() == 0
        assert not [p for p in running.survivors() if "RANK" in p.environ()]


def test_a_stopped_agent_does_not_carry_its_ranks_past_the_lease(tmp_path: Path) -> None:
    with agent(tmp_path, lease_ms=1_500, drain_ms=500) as running:
        running.home.start(DEAF)
        says(running, b"ready")
        running.process.send_signal(signal.SIGSTOP)
        assert running.wait() == -signal.SIGKILL
        assert running.gone()


def test_ranks_die_with_the_agent(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start(f"(setsid {FOREVER} &); echo ready; {DEAF}", ranks=[0, 1])
        says(running, b"ready\nready")
        running.kill()
        assert running.gone()


def test_ranks_die_with_the_agent_although_its_guard_was_killed_before(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start(DEAF)
        says(running, b"ready")
        guard = next(p for p in running.survivors() if p.name() == "dsched-guard")
        guard.kill()
        guard.wait()
        running.home.start("true", job="later")  # the loop has gone round since
        running.home.fact("exited", job="later")
        running.kill()
        assert running.gone()


# -- the daemon comes and goes -------------------------------------------------------------------------------------


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
