"""A deadline in a real daemon: decided by slack, explained by what would flip it, remembered over a kill."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import House, house, wait_for

pytestmark = pytest.mark.slow

GPUS: dict[str, Any] = {"type": ["H100"], "count": 8}
JOB: dict[str, Any] = {"capacity": ["spot", "on-demand"], "duration": "8h", "within": "30h"}


def seers(home: House) -> list[int]:
    """Children of this daemon that make outlooks."""
    assert home.process is not None
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"engine.seer" in (entry / "cmdline").read_bytes():
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                found += [int(entry.name)] if parent == home.process.pid else []
        except OSError:
            continue
    return found


def foreseen(home: House) -> bool:
    """Whether such a job would be decided by an outlook now."""
    told = home.client.plan({"spec": {"name": "trial", "run": "true", "gpus": GPUS, **JOB}}).get("deadline")
    return told is not None and told["policy"] == "slack"


def decided(home: House, job: str) -> Any:
    plans = home.client.explain(job, flips=True)
    return plans[-1].get("deadline") if plans else None


def test_a_deadline_is_decided_by_slack_and_explained(tmp_path: Path) -> None:
    with house(tmp_path, "--scale", "600", "--seed", "3") as home:
        first = home.submit("first", "exec sleep 300", gpus=GPUS, **JOB)
        home.wait_state(first, "running")
        wait_for(lambda: seers(home), "a process that makes outlooks")
        numbers = itertools.count()

        def by_slack() -> Any:
            """Once the outlook is there the next job is decided by it, unless the market has moved on meanwhile."""
            wait_for(lambda: foreseen(home), "an outlook", every=0.1)
            job = home.submit(f"next{next(numbers)}", "exec sleep 300", gpus=GPUS, **JOB)
            told = wait_for(lambda: decided(home, job), "a decision")
            home.client.act(job, "cancel")
            return told if told["policy"] == "slack" else None

        told = wait_for(by_slack, "a decision by slack")
        assert told["same"] is True
        assert {flip["what"] for flip in told["flips"]} & {"price", "hazard", "deadline"}
        assert told["slack_price"] is not None
        wait_for(lambda: list((home.state / "journal").glob("*.jsonl")), "a journal of the market")


def test_the_process_that_makes_outlooks_ends_with_a_killed_daemon(tmp_path: Path) -> None:
    with house(tmp_path, "--scale", "600", "--seed", "3") as home:
        home.submit("first", "exec sleep 300", **JOB)
        (seer,) = wait_for(lambda: seers(home), "a process that makes outlooks")
        assert home.process is not None
        os.kill(home.process.pid, signal.SIGKILL)
        home.process.wait()
        wait_for(lambda: not Path(f"/proc/{seer}").exists(), "its end")
