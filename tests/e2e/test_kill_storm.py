"""Daemon, cloud, agents and ranks die at random while jobs checkpoint: all finish, and no step counts twice."""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from dsched.scheduler.store.check import check
from tests.support import counting
from tests.support.cloud import alive, cloud_pids
from tests.support.house import House, Late, house, wait_for

KILLS = 25
JOBS = 6
GANGS = (8, 8, 8, 16, 16, 16)  # GPUs: half of the jobs have two machines, one of which may outlive the other
STEPS = 120
STEP_S = 0.1  # twelve seconds of work, so that most kills meet running jobs
SEED = 7


def test_the_judge_of_a_diary_sees_each_breach() -> None:
    good = "start 1 0\nstep 1 1\nsaved 1 1\nstep 1 2\nstart 2 1\nstep 2 2\nsaved 2 2\nend 2 3\n"
    assert counting.judge(good, 2) == []
    for old, new in (
        ("start 2 1", "start 2 0"),  # a commit was lost
        ("start 2 1", "start 1 1"),  # a generation twice
        ("step 2 2", "step 2 1"),  # a step twice
        ("step 2 2", "step 1 2"),  # the older generation still writes
        ("start 2 1", "intruder 2 0\nstart 2 1"),
        ("end 2 3", "end 2 5"),
        ("end 2 3\n", ""),
    ):
        assert counting.judge(good.replace(old, new), 2) != [], new


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_whatever_dies_every_job_ends_and_no_step_counts_twice(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    rng = random.Random(SEED)
    diaries = [tmp_path / f"diary-{number}" for number in range(JOBS)]
    killed: Counter[str] = Counter()
    with house(tmp_path, "--idle-seconds", "2") as home:
        jobs = [
            home.submit(f"count-{number}", _run(diary), retries=20, gpus={"type": ["H100"], "count": GANGS[number]})
            for number, diary in enumerate(diaries)
        ]
        for job in jobs:
            home.wait_state(job, "running")
        for _ in range(KILLS):
            time.sleep(rng.uniform(0.0, 1.2))  # the instant of the kill is the input of this test
            killed[_kill_one(home, rng)] += 1
        late = _late(home, jobs)
        home.wait_ready()
        states = [home.client.job(job)["state"] for job in jobs]
        generations = [home.client.job(job)["generation"] for job in jobs]
        home.kill()
        findings = check(home.state / "state.db")
    record_property("told", f"killed {dict(killed)}; {sum(generations)} generations of {JOBS} jobs")
    assert {diary.name: counting.judge(diary.read_text(), STEPS) for diary in diaries} == {d.name: [] for d in diaries}
    assert late == ""
    assert states == ["succeeded"] * JOBS
    assert findings == []
    assert sum(generations) > JOBS


def _late(home: House, jobs: list[str]) -> str:
    """What did not come; "" when all is over. The diaries are judged in any case: they tell why."""
    try:
        for job in jobs:
            home.wait_state(job, "succeeded", "failed")
        wait_for(lambda: not home.client.nodes() and not alive(home), "every machine to be given back")
        wait_for(lambda: not home.node_processes(), "every process of a machine to end")
    except Late as late:
        return str(late)
    return ""


def _run(diary: Path) -> str:
    return shlex.join(["exec", sys.executable, "-P", counting.__file__, str(diary), str(STEPS), str(STEP_S)])


def _kill_one(home: House, rng: random.Random) -> str:
    """Kill one of those that live; the daemon is started again, everything else by whoever looks after it."""
    kind = rng.choice(["daemon", "cloud", "agent", "agent", "rank", "rank"])
    if kind == "daemon":
        home.kill()
        home.start(wait=False)
        return kind
    victims = {"cloud": cloud_pids, "agent": _agents, "rank": _ranks}[kind](home)
    if not victims:
        return f"no {kind}"
    with contextlib.suppress(ProcessLookupError):
        os.kill(rng.choice(sorted(victims)), signal.SIGKILL)
    return kind


def _agents(home: House) -> list[int]:
    return [pid for pid in home.node_processes() if _runs(pid, b"dsched.jobs.agent")]


def _ranks(home: House) -> list[int]:
    return [pid for pid in home.node_processes() if _runs(pid, counting.__file__.encode())]


def _runs(pid: int, what: bytes) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False  # it ended while we looked
    return what in words and b"python" in words[0]
