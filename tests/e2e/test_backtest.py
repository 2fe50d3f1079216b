"""My last days under other rules: what a real daemon saw and ran is simulated again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.house import House, house, wait_for

MARKETS = ["on-demand", "reserved"]


def _backtest(built: House, *more: str) -> Any:
    command = [sys.executable, "-m", "dsched.scheduler.backtest", "--state", str(built.state), "-o", "json", *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_my_last_day_under_another_policy_deadline_and_commitment(tmp_path: Path) -> None:
    with house(tmp_path, "--scale", "600") as built:
        jobs = [built.submit(f"j{n}", "sleep 1", duration="2h", within="30h", capacity=MARKETS) for n in range(3)]
        for job in jobs:
            built.wait_state(job, "succeeded")
        wait_for(lambda: any((built.state / "journal").glob("*.jsonl")), "the journal")
        plain = _backtest(built, "--last", "2d", "--policy", "on-demand")
        assert plain["was"]["jobs"] == len(plain["would"]["jobs"]) == len(jobs)
        assert plain["would"]["deadlines"] == {"met": 3, "missed": 0}
        assert set(plain["would"]["by_market"]) == {"on-demand"}
        shape = plain["would"]["jobs"][0]["stays"][0]["pool"].split("/")[2]
        held = _backtest(built, "--last", "2d", "--commitment", f"{shape}=3@0.01", "--deadline", "20h")
        assert set(held["would"]["by_market"]) == {"reserved"}
        assert float(held["would"]["spent"]) < float(plain["would"]["spent"])


def test_without_a_journal_it_says_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dsched.scheduler.backtest", "--state", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "dsched daemon" in done.stderr
