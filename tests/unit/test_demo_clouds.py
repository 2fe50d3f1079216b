"""The claims of the demo of two clouds: each one falls when what it says did not happen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsched.scheduler.demo.clouds.play import Record
from dsched.scheduler.demo.clouds.proof import claims
from dsched.scheduler.demo.play import Settings

LOSSES = {1: 5.5, 2: 5.25, 3: 5.0, 4: 4.75}


def line(kind: str, owed: str, **more: Any) -> dict[str, Any]:
    usual = {"node": "a.0", "where": "aws/z/s/spot", "kind": kind, "start": 0, "end": 10, "rate": "0.2", "owed": owed}
    return {**usual, "baseline": "0", "source": "list price, 1 GB from aws/us-east-1", "quote_age_s": 0.0, **more}


def record(folder: Path) -> Record:
    """A run of which every claim is true: two steps on AWS, two at Google."""
    (folder / "losses").mkdir()
    texts = [json.dumps({"step": step, "loss": loss}) for step, loss in LOSSES.items()]
    (folder / "losses" / "00000000.jsonl").write_text("\n".join(texts) + "\n")
    lines = [line("compute", "0.002"), line("egress", "0.001"), line("correction", "-0.001")]
    bill: Any = {"lines": lines, "spent": "0.002", "baseline": "0.01", "saved": "0.008", "saved_share": 0.8}
    attempts: Any = [{"where": "aws/z/s/spot"}, {"where": "gcp/z/s/spot"}]
    events: Any = [{"kind": "node.noticed", "why": "the cloud takes a.0 back (metadata service)"}]
    job: Any = {"state": "succeeded", "reason": "every rank ended with 0"}
    return Record(
        job=job,
        attempts=attempts,
        events=events,
        bill=bill,
        seconds=20.0,
        warned={"machine": "i-1", "at": 100.0, "event_s": 1.5},
        seen={
            "metadata_heard": 100.5,
            "queue_read": 101.6,
            "aws_launches": 1,
            "gcp_launches": [100.6],
            "left": 0,
            "gcs_objects": 9,
        },
        told={},
        user_data=[2_700, 2_700],
        tls=["https://127.0.0.1:1", "https://127.0.0.1:1"],
        hints=["us-east-1/i-1"],
        runs={
            "aws": {1: {step: repr(LOSSES[step]) for step in (1, 2)}},
            "gcp": {2: {step: repr(LOSSES[step]) for step in (3, 4)}},
        },
        straight=folder.as_uri(),
    )


def judged(built: Record, folder: Path) -> list[str]:
    """What does not hold."""
    return [claim.text for claim in claims(built, Settings(folder=folder, steps=len(LOSSES))) if not claim.holds]


def test_a_run_that_did_it_all_holds_every_claim(tmp_path: Path) -> None:
    assert judged(record(tmp_path), tmp_path) == []


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda r: r.job.update(state="failed"), "the job ended by itself: failed"),
        (lambda r: r.attempts.pop(), "ran on aws/z/s/spot;"),
        (lambda r: r.user_data.__setitem__(0, 5_000), "user-data of 5000 bytes"),
        (lambda r: r.tls.__setitem__(0, "unix:/s"), "called"),
        (lambda r: r.seen.update(metadata_heard=None), "from its metadata service never"),
        (lambda r: r.events.clear(), "and told"),
        (lambda r: r.seen.update(queue_read=None), "from the queue (SQS) never"),
        (lambda r: r.hints.clear(), "from the queue"),
        (lambda r: r.seen.update(gcp_launches=[102.5]), "asked for 2.50 s after it"),
        (lambda r: r.seen.update(gcp_launches=[]), "no replacement was asked for"),
        (lambda r: r.runs["gcp"][2].update({2: "5.25"}), "1 steps lost"),
        (lambda r: r.runs["gcp"][2].update({4: "4.76"}), "1 differ in any bit"),
        (lambda r: r.bill["lines"].pop(1), "nothing was booked"),
        (lambda r: r.bill.update(spent="0.005"), "add up to $0.005"),
        (lambda r: r.seen.update(left=1), "1 machines left"),
        (lambda r: r.left_over.append(7), "1 processes left over"),
    ],
)
def test_a_claim_falls_when_it_is_not_so(tmp_path: Path, spoil: Callable[[Record], object], says: str) -> None:
    built = record(tmp_path)
    spoil(built)
    assert any(says in text for text in judged(built, tmp_path))
