"""A scripted daemon on a real socket, and a job file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_api import FakeApi, serving
from tests.tui import fleet

BILL = {
    "job": "j12", "spent": "12.00", "baseline": "20.00", "saved": "8.00", "saved_share": 0.4,
    "market_note": "made-up market, 600x",
    "lines": [{"node": "n1.0", "where": fleet.pool(0), "kind": "node", "start": fleet.MARKET - fleet.HOUR,
               "end": fleet.MARKET, "rate": "12.00", "owed": "12.00", "baseline": "20.00", "source": "replay",
               "quote_age_s": 30.0}],
}  # fmt: skip
NODE = {
    "id": "n1.0", "state": "ready", "where": fleet.pool(0), "gpus": 8, "job": "j12", "generation": 4, "rate": "17.92",
    "lease_s": 900.0, "heard_s": 0.4, "launched": fleet.MARKET - fleet.HOUR, "notice_wall": None, "ref": "i-0abc",
}  # fmt: skip


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    """A daemon with one running job, j12."""
    with serving(tmp_path / "api.sock") as fake:
        job = fleet.job()
        fake.on("GET", "/v1/health", fleet.health([job]))
        fake.on("GET", "/v1/jobs", [job, fleet.job(11, state="queued", reason="no offer fits", where="", burn="0.00")])
        for name in ("j12", "moe-ft"):
            fake.on("GET", f"/v1/jobs/{name}", job)
        fake.on("GET", "/v1/jobs/j12/explain", [fleet.plan()])
        fake.on("GET", "/v1/jobs/j12/attempts", fleet.attempts())
        fake.on("GET", "/v1/jobs/j12/bill", BILL)
        fake.on("POST", "/v1/jobs", job)
        fake.on("POST", "/v1/plan", fleet.plan())
        fake.on("GET", "/v1/offers", fleet.offers())
        fake.on("GET", "/v1/nodes", [NODE])
        fake.on("GET", "/v1/events", fleet.events())
        fake.on("GET", "/v1/budgets", [fleet.budget()])
        fake.on("GET", "/v1/money", fleet.money())
        fake.on("GET", "/v1/checks", [{"name": "sqlite", "status": "ok", "message": "3.53.1", "fix": ""}])
        for action in ("cancel", "pause", "resume", "checkpoint"):
            fake.on("POST", f"/v1/jobs/j12/{action}", fleet.job(state="draining", reason="asked by ana"))
        monkeypatch.setenv("DSCHED_SERVER", str(fake.path))
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("TZ", "UTC")
        yield fake


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text("name: moe-ft\nrun: python train.py\ngpus: {type: H100, count: 8}\n")
    return path
