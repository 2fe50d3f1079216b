"""`dsched market`: predictions beside what happened, and the pools that are left alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import dsched as call
from tests.support.fake_api import FakeApi, serving
from tests.tui import fleet

JUDGED: dict[str, Any] = {
    "count": 40, "brier": 0.04, "base": 0.05, "skill": 0.2,
    "rows": [{"low": 0.05, "high": 0.1, "count": 40, "predicted": 0.07, "happened": 0.05}],
    "cooling": [{"pool": fleet.pool(0), "left_s": 600.0, "why": "sold out\x1b[2J", "refusals": 2, "interruptions": 1}],
}  # fmt: skip


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    with serving(tmp_path / "api.sock") as fake:
        fake.on("GET", "/v1/health", fleet.health([]))
        fake.on("GET", "/v1/market/calibration", JUDGED)
        monkeypatch.setenv("DSCHED_SERVER", str(fake.path))
        monkeypatch.setenv("NO_COLOR", "1")
        yield fake


def test_the_table_sets_what_was_said_beside_what_came(api: FakeApi) -> None:
    said = call("market", "calibration")
    assert "40 predictions: Brier score 0.040, 20% better than always saying the average (0.050)" in said.out
    assert "5% to 10%" in said.out
    assert "COOLING DOWN" in said.out
    assert "\x1b" not in said.out


def test_programs_read_all_of_it(api: FakeApi) -> None:
    assert json.loads(call("market", "-o", "json").out)["skill"] == 0.2


def test_without_predictions_it_says_when_there_will_be_some(api: FakeApi) -> None:
    api.on("GET", "/v1/market/calibration", JUDGED | {"count": 0, "brier": None, "skill": None, "cooling": []})
    assert "no prediction has come due yet" in call("market").out


def test_another_word_is_refused_with_the_right_one(api: FakeApi) -> None:
    said = call("market", "weather")
    assert said.code == 2
    assert "dsched market calibration" in said.err


def test_what_to_reserve_is_said_with_what_it_saves(api: FakeApi) -> None:
    row = {
        "provider": "aws", "region": "us-east-1", "shape": "p5.48xlarge", "machines": 2, "reserved": "25.00",
        "paid": "45.00", "saving": "28800.00", "used": 0.9, "breaks_even": 0.5,
    }  # fmt: skip
    api.on("GET", "/v1/market/commitments", {"window_s": 30 * 86_400.0, "rows": [row], "held": [], "contracts": []})
    said = call("market", "commitments")
    assert "in the last 30 days" in said.out
    assert all(word in said.out for word in ("2 x p5.48xlarge", "aws/us-east-1", "25.00", "45.00", "90%", "50%"))
    held = {"name": "block-7", "pool": "aws/use1-az4/p5*", "paid": "200.00", "used": 0.5, "beside": "98.32"}
    contract = {"provider": "gcp", "kind": "cud-3y", "id": "c-1", "region": "us-east4", "covers": "gpu:H100",
                "count": 16, "per_hour": "0", "until": None, "used": 0.25}  # fmt: skip
    answer = {"window_s": 30 * 86_400.0, "rows": [], "held": [held], "contracts": [contract]}
    api.on("GET", "/v1/market/commitments", answer)
    said = call("market", "commitments")
    assert "no reserved capacity on sale would have cost less" in said.out
    assert all(word in said.out for word in ("block-7", "aws/use1-az4/p5*", "200.00", "50%", "98.32"))
    assert all(word in said.out for word in ("cud-3y c-1", "gcp/us-east4", "16 x H100", "25%"))
