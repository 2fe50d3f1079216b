"""Warm starts on a node: the next generation of a job is forked from what the last one had imported."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from tests.support.agent import agent, says
from tests.support.house import wait_for

SLOW = """
import os
from pathlib import Path
def warm():
    global pid
    pid = os.getpid()
    Path(__file__).with_name("ready").touch()
"""
RANK = """
import json, os, signal, socket, subprocess, sys, time
import slow
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
warm = hasattr(slow, "pid")
subprocess.Popen(["setsid", "sleep", "1000"])
out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
out.sendto(json.dumps({"event": "step", "step": 1}).encode(), os.environ["DSCHED_SOCKET"])
print("warm" if warm else "cold", os.environ["DSCHED_GENERATION"], os.environ["RANK"], os.getppid(), flush=True)
if os.environ["DSCHED_GENERATION"] == "3":
    sys.exit(9)
while True:
    time.sleep(0.05)
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    code = tmp_path / "code"
    code.mkdir()
    (code / "slow.py").write_text(SLOW)
    (code / "rank.py").write_text(RANK)
    return {"WARM_MODULE": "slow", "PYTHONPATH": str(code)}


def test_the_next_generations_are_forked_and_ended_like_any_other(tmp_path: Path, env: dict[str, str]) -> None:
    run = f"{sys.executable} -m rank"
    with agent(tmp_path) as running:
        home, agents_pid = running.home, running.process.pid
        home.start(run, generation=1, env=env)
        says(running, b"cold 1 0")
        zygote = home.wait(lambda: zygotes(agents_pid))[0]
        wait_for(
            (tmp_path / "code" / "ready").exists, "the zygote's imports"
        )  # it says so next; a generation is between
        home.start(run, generation=2, env=env)
        says(running, b" 2 0", generation=2)
        assert home.fact("exited", generation=1)["exits"] == {"0": 75}
        home.start(run, generation=3, env=env)
        says(running, f"warm 3 0 {agents_pid}\n".encode(), generation=3)
        assert home.fact("exited", generation=2)["exits"] == {"0": 75}
        assert home.fact("exited", generation=3)["exits"] == {"0": 9}
        left = [child for child in psutil.Process(agents_pid).children(recursive=True) if "sleep" in child.name()]
        assert left == [], "what a forked rank started in a session of its own is found and ended, too"
        assert zygotes(agents_pid) == [zygote]


def test_a_job_that_does_not_ask_has_no_zygote(tmp_path: Path, env: dict[str, str]) -> None:
    del env["WARM_MODULE"]
    with agent(tmp_path) as running:
        running.home.start(f"{sys.executable} -m rank", generation=3, env=env)
        running.home.fact("exited", generation=3)
        assert zygotes(running.process.pid) == []


def zygotes(pid: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(pid).children() if "dsched.jobs.runtime.zygote" in child.cmdline()]
