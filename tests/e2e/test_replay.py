"""What a real daemon recorded is run again on the virtual clock, and decides the same to the last byte."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from dsched.scheduler.sim.rerun import rerun
from tests.support.house import house, wait_for

JOBS = 4


def test_the_same_messages_give_the_same_decisions_live_and_replayed(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    with house(tmp_path, "--record", str(record)) as built:
        jobs = [built.submit(f"j{n}", "sleep 0.2", within="40h", duration="2h") for n in range(JOBS)]
        spot = [built.submit(f"s{n}", "sleep 0.2", capacity=["spot", "on-demand"]) for n in range(JOBS)]
        for job in (*jobs, *spot):
            built.wait_state(job, "succeeded")
        seen = len(record.read_text().splitlines())
        wait_for(lambda: len(record.read_text().splitlines()) > seen + 5, "one more flush")
    found = rerun(record)
    assert found.differs is None
    assert found.compared > 20 * JOBS
    again = subprocess.run(
        [sys.executable, "-m", "dsched.scheduler.simulate", "--replay", str(record), "-o", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(again.stdout)["digest"] == found.digest


def test_a_record_that_was_touched_is_seen(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    with house(tmp_path, "--record", str(record)) as built:
        job = built.submit("j", "true")
        built.wait_state(job, "succeeded")
        wait_for(lambda: '"sum"' in record.read_text().splitlines()[-1] and _sums(record) > 2, "a flush")
    text = record.read_text()
    record.write_text(text.replace('"true"', '"tree"', 1))
    assert rerun(record).differs is not None


def _sums(record: Path) -> int:
    return record.read_text().count('"sum"')
