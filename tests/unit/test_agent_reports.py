"""What the agent makes of the words of ranks: foreign text, bounded in form and in number."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from dsched.jobs.agent.loop import Loop
from dsched.jobs.agent.progress import FALLBACKS_MAX, SAVES_MS, Reports
from dsched.scheduler.wire.agent import Fact


def reported(folder: Path, *words: dict[str, object]) -> list[Fact]:
    """What becomes of a generation's reports while its loop runs for a moment, without its end."""
    told: list[Fact] = []
    loop = Loop()
    reports = Reports(loop, folder / "s", "j", 1, tell=told.append, say=lambda _line: None)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as rank:
        for word in words:
            rank.sendto(json.dumps(word).encode(), str(folder / "s"))
            reports.receive()
    loop.after(2 * SAVES_MS, lambda: loop.stop(0))
    loop.run()
    before = list(told)
    reports.close()
    assert told == before, "something waited for the end"
    return told


def test_a_storm_of_saves_is_told_by_its_first_and_its_last(tmp_path: Path) -> None:
    told = reported(tmp_path, *({"event": "saved", "step": step, "uri": "u"} for step in range(1, 100)))
    assert [fact["step"] for fact in told if fact["kind"] == "saved"] == [1, 99]


def test_a_save_that_waits_is_told_at_the_end_of_the_generation(tmp_path: Path) -> None:
    told: list[Fact] = []
    reports = Reports(Loop(), tmp_path / "s", "j", 1, tell=told.append, say=lambda _line: None)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as rank:
        for step in (1, 2):
            rank.sendto(json.dumps({"event": "saved", "step": step}).encode(), str(tmp_path / "s"))
    reports.close()
    assert [fact["step"] for fact in told if fact["kind"] == "saved"] == [1, 2]


def test_a_checkpoint_whose_save_was_never_heard_of_is_told_by_the_start_that_resumes_from_it(tmp_path: Path) -> None:
    told = reported(tmp_path, {"event": "ready", "step": 40, "uri": "file:///c/40"})
    assert [(fact["step"], fact["uri"]) for fact in told if fact["kind"] == "saved"] == [(40, "file:///c/40")]


def test_a_fresh_start_and_durations_that_are_none_tell_nothing(tmp_path: Path) -> None:
    took = {"write_ms": -5, "stall_ms": 1e299}
    told = reported(tmp_path, {"event": "ready", "step": 0, "uri": "u"}, {"event": "saved", "step": 1, **took})
    assert [fact["kind"] for fact in told] == ["saved"]
    assert not took.keys() & told[0].keys()


def test_a_rank_cannot_flood_the_daemon_with_fallbacks(tmp_path: Path) -> None:
    words: list[dict[str, object]] = [{"event": "ready", "step": n, "fallback": "f"} for n in range(FALLBACKS_MAX * 2)]
    assert len(reported(tmp_path, *words)) == FALLBACKS_MAX


def test_reports_of_any_shape_do_no_harm(tmp_path: Path) -> None:
    told: list[Fact] = []
    said: list[str] = []
    reports = Reports(Loop(), tmp_path / "s", "j", 1, tell=told.append, say=said.append)
    hostile: list[object] = [[], 1, {}, {"event": []}, {"event": "step"}, {"event": "step", "step": -1}]
    hostile += [{"event": "step", "step": True}, {"event": "step", "step": 10**30}, {"event": "saved", "step": "9"}]
    words = [json.dumps(body).encode() for body in hostile] + [b"\xff" * 100, b"[" * 5_000]
    words += [
        b'{"event": "step", "step": 7, "loss": Infinity, "tokens_per_s": "fast", "step_ms": 2}',
        b'{"event": "ready", "step": 6, "fallback": "7: damaged \\ud800"}',
        b'{"event": "alarm", "step": 6, "reason": "two digests"}',
    ]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as rank:
        for word in words:
            rank.sendto(word, str(tmp_path / "s"))
            reports.receive()
    reports.close()
    assert [fact["kind"] for fact in told] == ["progress", "saved"]
    assert {"step": 7, "step_ms": 2.0, "first": True}.items() <= told[0].items()
    assert not {"loss", "tokens_per_s"} & told[0].keys()
    assert told[1]["kind"] == "saved"
    assert told[1].get("fallback") == "7: damaged ?"
    assert said == ["alarm at step 6: two digests"]
