"""The simulator: the same seed decides the same, faults break nothing, and what it shows is what happened."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dsched.providers.local.market import generated
from dsched.scheduler.core.job import Spec
from dsched.scheduler.core.units import Instant, Millis
from dsched.scheduler.sim.crowd import crowd
from dsched.scheduler.sim.drive import DAY, POLICY, Setting, Simulation
from dsched.scheduler.sim.faults import FAULTS
from dsched.scheduler.sim.picture import draw
from dsched.scheduler.sim.tally import tally, to_wire
from dsched.scheduler.simulate import main

JOBS = 4
SHORTER = 4  # days of market cost seconds of ours: the crowd's jobs, and their deadlines, at a quarter of their length
POLICY_UP = replace(POLICY, deadline_policy="up")  # asks for no outlooks: seconds instead of minutes


@cache
def calm() -> Simulation:
    return simulated()


def simulated(*, seed: int = 1, faults: str = "none") -> Simulation:
    setting = Setting(seed=seed, lasting=Millis(DAY // 2), faults=FAULTS[faults], policy=POLICY_UP)
    jobs = [(at, shorter(at, spec)) for at, spec in crowd(seed, JOBS, setting.start, setting.lasting, ("H100",))]
    run = Simulation(setting, generated(1), jobs)
    run.run()
    return run


def shorter(at: int, spec: Spec) -> Spec:
    work = Millis((spec.duration or 0) // SHORTER)
    due = None if spec.deadline is None else Instant(at + (spec.deadline - at) // SHORTER)
    return replace(spec, duration=work, deadline=due)


def test_the_same_seed_gives_the_same_digest_of_decisions_and_another_seed_another() -> None:
    first, second, other = calm(), simulated(), simulated(seed=2)
    assert first.digest.text == second.digest.text != other.digest.text


@pytest.mark.parametrize("faults", ["crashes", "rough"])
def test_every_job_ends_under_every_kind_of_faults(faults: str) -> None:
    found = tally(simulated(faults=faults))
    assert {row.state for row in found.rows} == {"succeeded"}
    assert len(found.rows) == JOBS
    if FAULTS[faults].crash:
        assert found.crashes > 0


def test_the_bill_is_the_sum_of_its_markets_and_no_job_is_billed_for_anothers_hours() -> None:
    run = calm()
    found = tally(run)
    assert found.paid == sum(found.spent.values())
    assert 0 < sum(row.spent for row in found.rows) <= found.paid
    assert all((stay.ended or 0) > stay.begun for row in found.rows for stay in row.stays)


def test_the_picture_has_a_dot_per_job_with_a_deadline_and_a_bar_per_stay() -> None:
    found = tally(calm())
    drawn = ET.fromstring(draw(found))
    name = "{http://www.w3.org/2000/svg}"
    dots = [row for row in found.rows if row.deadline is not None and row.ended is not None]
    assert len(drawn.findall(f"{name}circle")) == len(dots)
    bars = [r for r in drawn.findall(f"{name}rect") if r.find(f"{name}title") is not None]
    assert len(bars) == sum(len(row.stays) for row in found.rows)


def test_json_tells_what_the_table_tells() -> None:
    told: dict[str, Any] = to_wire(tally(calm()))
    assert json.loads(json.dumps(told)) == told
    assert len(told["jobs"]) == JOBS


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--faults", "wild"], "there are"),
        (["--days", "nan"], "--days"),
        (["--jobs", "0"], "--jobs"),
        (["--policy", "hope"], "--policy"),
        (["--trace", "nowhere"], "no *.json traces"),
        (["--trace", "x", "--synthetic"], "keep one"),
        (["--budget", "-3"], "--budget"),
        (["missing.yaml"], "missing.yaml"),
    ],
)
def test_a_command_that_cannot_be_followed_is_refused_with_the_place(
    options: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(options) == 2
    assert complaint in capsys.readouterr().err


def test_a_process_of_its_own_ends_with_the_same_refusal(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dsched.scheduler.simulate", "--jobs", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "--jobs" in done.stderr
