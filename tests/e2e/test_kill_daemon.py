"""kill -9 of the daemon at any instant: no acknowledged job is lost, none runs twice, no machine is left over."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from dsched.scheduler.api.client import ClientError
from dsched.scheduler.store.check import check
from tests.support.house import House, house, wait_for

KILLS = 50
JOBS = 24
CLIENTS = 3


def submit_all(home: House, out: Path, share: list[int], acked: dict[str, str], stop: threading.Event) -> None:
    """A client that repeats with the same key until it has an answer."""
    for number in share:
        name = f"job{number}"
        run = f"echo $DSCHED_JOB >> {out}; sleep 0.2"
        while name not in acked and not stop.is_set():
            try:
                acked[name] = home.submit(name, run)
            except ClientError:
                time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_fifty_kills_lose_nothing_double_nothing_and_leave_nothing(tmp_path: Path) -> None:
    rng = random.Random(20)
    out = tmp_path / "ran"
    acked: dict[str, str] = {}
    stop = threading.Event()
    with house(tmp_path, "--idle-seconds", "2") as home:
        shares = [list(range(n, JOBS, CLIENTS)) for n in range(CLIENTS)]
        clients = [threading.Thread(target=submit_all, args=(home, out, share, acked, stop)) for share in shares]
        for client in clients:
            client.start()
        try:
            for _ in range(KILLS):
                time.sleep(rng.uniform(0.0, 1.2))  # the instant of the kill is the input of this test
                home.kill()
                home.start(wait=False)
            home.wait_ready()
            for client in clients:
                client.join(60)
        finally:
            stop.set()
        for job in acked.values():
            home.wait_state(job, "succeeded")
        jobs = home.client.jobs(all=True, limit=1000)
        wait_for(lambda: not home.client.nodes(), "every machine to be given back")
        wait_for(lambda: not home.node_processes(), "every process of a machine to end")
        home.kill()
        findings = check(home.state / "state.db")
    assert len(acked) == JOBS
    assert sorted(job["name"] for job in jobs) == sorted(acked)
    assert {job["name"]: job["id"] for job in jobs} == acked
    assert Counter(out.read_text().split()) == Counter(acked.values())
    assert findings == []


def test_a_second_daemon_on_the_same_state_directory_is_refused_and_names_the_first(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        assert home.process is not None
        second = House(home.state)
        second.start(wait=False)
        assert second.process is not None
        assert second.process.wait(30) == 1
        assert str(home.process.pid) in second.log.read_text()
        assert home.client.health()["pid"] == home.process.pid


def test_a_stale_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        home.kill()
        assert (home.state / "api.sock").exists()
        home.start()
        assert home.client.health()["ready"]


def test_ranks_run_on_while_the_daemon_is_dead_and_their_end_is_heard_afterwards(tmp_path: Path) -> None:
    out = tmp_path / "ran"
    go = tmp_path / "go"
    with house(tmp_path) as home:
        job = home.submit("long", f"echo begun >> {out}; while [ ! -e {go} ]; do sleep 0.05; done; echo ended >> {out}")
        home.wait_state(job, "running")
        wait_for(out.exists, "the first line")
        home.kill()
        go.touch()
        wait_for(lambda: out.read_text().count("\n") == 2, "the rank's end without a daemon")
        home.start()
        home.wait_state(job, "succeeded")
    assert out.read_text().split() == ["begun", "ended"]


def test_kill_9_of_an_agent_ends_its_ranks_and_the_job_runs_again_elsewhere(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with house(tmp_path) as home:
        job = home.submit("moved", f"while [ ! -e {go} ]; do sleep 0.05; done")
        home.wait_state(job, "running")
        old = {pid for pid in home.node_processes() if b"jobs.agent" in Path(f"/proc/{pid}/cmdline").read_bytes()}
        assert old
        for pid in old:
            with contextlib.suppress(ProcessLookupError):  # the first one takes the others with it
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: home.client.job(job)["generation"] == 2, "the second generation")
        go.touch()
        home.wait_state(job, "succeeded")
        assert not old & set(home.node_processes())
