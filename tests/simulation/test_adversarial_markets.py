"""The bench over folders that nobody would call markets: it never crashes, never blames a policy, and says why."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench import placement
from bench.parts.placing import Plan, Played, smoke
from bench.parts.placing_report import as_json, report
from tests.support.folders import KINDS, made

DAYS = 1  # of every zone: jobs of six hours
UNKIND = ("blind", "dear_spot")


def played(folder: Path, *policies: str) -> Played:
    got = smoke(Plan(traces=folder, seed=3, jobs=4, policies=policies))
    json.dumps(as_json(got, per_job=True), allow_nan=False)
    assert list(report(got))
    for cell in got.cells:
        assert cell.misses == 0, cell
        assert np.isfinite(cell.cost).all(), cell
        assert (cell.cost >= cell.optimum * (1 - 1e-6)).all(), cell
    return got


@pytest.mark.parametrize("kind", KINDS)
def test_every_folder_is_played_without_a_miss(kind: str, tmp_path: Path) -> None:
    assert played(made(tmp_path, kind, days=DAYS), "up").cells


@pytest.mark.parametrize("kind", UNKIND)
def test_the_slack_policy_is_no_dearer_than_on_demand_where_nothing_can_be_foreseen(kind: str, tmp_path: Path) -> None:
    cells = played(made(tmp_path, kind, days=DAYS), "slack").cells
    mine = [cell for cell in cells if cell.policy == "slack"]
    assert sum(cell.cost.sum() for cell in mine) <= 1.02 * sum(cell.on_demand.sum() for cell in mine)


def test_a_folder_with_nothing_to_play_is_refused_with_every_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["placement.py", "--traces", str(made(tmp_path, "never_up")), "--only", "1 zone"])
    assert placement.main() == 2
    told = capsys.readouterr().err
    assert "no set of zones whose name holds '1 zone' to play" in told
    assert "a/us-east-1c, up 0% of the time, leaves nothing to decide" in told
