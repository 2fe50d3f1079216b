"""`dsched logs`, `wait` and `events -f`: streams that break, that are silent, and that are left."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cli import dsched
from tests.support.fake_api import FakeApi, Request, Stream, log_line
from tests.tui import fleet


def test_logs_are_one_story_across_moves(api: FakeApi) -> None:
    api.on(
        "GET",
        "/v1/jobs/j12/logs",
        Stream(log_line(1, 0, "step 1"), b"\n", log_line(2, 0, "\x1b[31mstep 2\x1b[0m\x1b[2J")),
    )
    said = dsched("logs", "j12")
    assert said.out.splitlines() == [
        "step 1",
        "── moved aws/use2-az2 p5.48xlarge spot → aws/use1-az1 p5.48xlarge spot (interrupted), 41s, "
        "from step 16,000 ──",
        "step 2\\x1b[2J",
    ]


def test_a_broken_log_is_resumed_without_a_double(api: FakeApi) -> None:
    def answer(request: Request) -> Stream:
        again = len(api.asked("GET", "/v1/jobs/j12/logs")) > 1
        first = log_line(1, 7, "step 1")
        return Stream(first, log_line(1, 14, "step 2")) if again else Stream(first, breaks=True)

    api.on("GET", "/v1/jobs/j12/logs", answer)
    assert dsched("logs", "-f", "j12").out == "step 1\nstep 2\n"


def test_ctrl_c_only_detaches(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> Iterator[Any]:
        yield {"generation": 1, "rank": 0, "offset": 7, "text": "step 1"}
        raise KeyboardInterrupt

    monkeypatch.setattr("dsched.scheduler.api.client.Client.logs", interrupted)
    said = dsched("logs", "-f", "j12")
    assert said.out == "step 1\n"
    assert "detached; j12 keeps running." in said.err
    assert said.code == 130
    assert api.asked("POST", "/v1/jobs/j12/cancel") == []


def _sse(*events: Any, breaks: bool = False) -> Stream:
    frames = [b": alive\n\n", *(f"id: {e['seq']}\ndata: {json.dumps(e)}\n\n".encode() for e in events)]
    return Stream(*frames, media="text/event-stream", breaks=breaks)


def test_wait_is_woken_by_the_jobs_events(api: FakeApi) -> None:
    def job(_: Request) -> Any:
        return fleet.job(state="succeeded" if api.asked("GET", "/v1/events") else "running")

    api.on("GET", "/v1/jobs/j12", job)
    api.on("GET", "/v1/events", _sse(fleet.event(9, "job.ended")))
    assert dsched("wait", "j12").code == 0
    (asked,) = api.asked("GET", "/v1/events")
    assert asked.query == {"after": "8", "job": "j12"}


@pytest.mark.parametrize(("state", "goal", "code"), [
    ("succeeded", "succeeded", 0), ("failed", "succeeded", 100), ("cancelled", "ended", 0),
    ("cancelled", "succeeded", 103), ("failed", "failed", 0), ("running", "running", 0), ("succeeded", "failed", 1),
])  # fmt: skip
def test_wait_reports_the_job(api: FakeApi, state: str, goal: str, code: int) -> None:
    api.on("GET", "/v1/jobs/j12", fleet.job(state=state))
    assert dsched("wait", "j12", "--for", goal).code == code


def test_wait_gives_up_in_time(api: FakeApi) -> None:
    api.on("GET", "/v1/events", lambda _: _Silent())
    said = dsched("wait", "j12", "--timeout", "50ms")
    assert said.code == 8
    assert "j12 is still ● running after 50ms" in said.err


def test_a_stream_of_events_is_resumed_behind_the_last_one(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: Request) -> Any:
        if request.headers.get("accept") != "text/event-stream":
            return [fleet.event(8)]
        streams = [r for r in api.asked("GET", "/v1/events") if r.headers.get("accept") == "text/event-stream"]
        if len(streams) == 1:
            return _sse(fleet.event(9, why="nine"), breaks=True)
        return _sse(fleet.event(9, why="nine"), fleet.event(10, why="ten"))

    api.on("GET", "/v1/events", answer)
    said = dsched("events", "-f", "-o", "jsonl")
    assert [json.loads(line)["seq"] for line in said.out.splitlines()] == [8, 9, 10]
    assert api.seen[-1].headers["last-event-id"] == "9"


class _Silent(Stream):
    """An event stream on which nothing happens for a while."""

    def __init__(self) -> None:
        super().__init__(media="text/event-stream")
        self.parts = _Slow()  # type: ignore[assignment]


class _Slow:
    def __iter__(self) -> Iterator[bytes]:
        yield b": alive\n\n"
        threading.Event().wait(2)
