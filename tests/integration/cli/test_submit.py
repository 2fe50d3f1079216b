"""`dsched submit`: what it asks, what it ships, how it follows, and a spec that is wrong."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

from tests.support.cli import dsched
from tests.support.fake_api import FakeApi, Refusal, Request, Stream, log_line
from tests.tui import fleet


def test_submit_detached_says_the_id_and_sends_a_key(api: FakeApi, spec: Path) -> None:
    said = dsched("submit", spec, "-d")
    assert (said.code, said.out) == (0, "j12\n")
    (asked,) = api.asked("POST", "/v1/jobs")
    assert asked.json["spec"]["name"] == "moe-ft"
    assert len(asked.json["key"]) == 32


def test_submit_says_why_a_job_is_held(api: FakeApi, spec: Path) -> None:
    api.on("POST", "/v1/jobs", fleet.job(state="held", reason="the budget is spent"))
    assert "held  moe-ft: the budget is spent" in dsched("submit", spec, "-d").err


def test_submit_asks_a_person_with_the_price_and_takes_no_for_an_answer(api: FakeApi, spec: Path) -> None:
    said = dsched("submit", spec, "-d", tty=True, typed="n\n")
    assert "submit moe-ft? $81.90 expected [y/N]" in said.err
    assert api.asked("POST", "/v1/jobs") == []
    assert dsched("submit", spec, "-d", tty=True, typed="y\n").code == 0
    assert len(api.asked("POST", "/v1/jobs")) == 1


def test_submit_with_y_asks_nothing(api: FakeApi, spec: Path) -> None:
    assert "[y/N]" not in dsched("submit", spec, "-d", "-y", tty=True).err
    assert len(api.asked("POST", "/v1/jobs")) == 1


def test_submit_ships_the_workdir_before_the_job(api: FakeApi, spec: Path) -> None:
    folder = spec.parent / "work"
    (folder / ".git").mkdir(parents=True)
    (folder / "train.py").write_text("print(1)")
    held: dict[str, bytes] = {}

    def keep(request: Request) -> None:
        held[request.path.rsplit("/", 1)[1]] = request.body

    spec.write_text(spec.read_text() + "workdir: work\n")
    api.on("PUT", "/v1/bundles/*", keep)
    assert dsched("submit", spec, "-d").code == 0
    ((sha256, body),) = held.items()
    assert hashlib.sha256(body).hexdigest() == sha256
    with tarfile.open(fileobj=io.BytesIO(body)) as bundle:
        assert bundle.getnames() == ["train.py"]
    assert api.seen[-1].path == "/v1/jobs"
    assert api.seen[-1].json["spec"]["workdir"] == f"sha256:{sha256}"


def test_submit_follows_the_log_to_the_end_and_reports_the_job(api: FakeApi, spec: Path) -> None:
    api.on("GET", "/v1/jobs/j12/logs", Stream(log_line(1, 0, "step 1"), log_line(1, 7, "step 2")))
    api.on("GET", "/v1/jobs/j12", fleet.job(state="failed", reason="exit 3"))
    said = dsched("submit", spec)
    assert said.out == "step 1\nstep 2\n"
    assert "j12 ✖ failed: exit 3; spent $526.23, saved $1,064.10, 3 moves" in said.err
    assert said.code == 100


def test_a_plan_that_no_longer_holds_is_refused(api: FakeApi, spec: Path) -> None:
    def refuse(request: Request) -> None:
        assert request.json["plan"] == "d-1"
        raise Refusal(409, code="E409", message="plan d-1 would not be chosen any more", hint="dsched plan")

    api.on("POST", "/v1/jobs", refuse)
    said = dsched("submit", spec, "-d", "--plan", "d-1")
    assert said.err == "error[E409] plan d-1 would not be chosen any more\n  do    dsched plan\n"
    assert said.code == 1


def test_a_wrong_spec_is_shown_at_its_place_and_nothing_is_sent(api: FakeApi, spec: Path) -> None:
    spec.write_text("name: a\nrun: x\ngpus: {type: H10O}\n")
    said = dsched("submit", spec)
    assert said.err.splitlines() == [
        f"error[E101] {spec}:3:14 gpus.type.0: unknown GPU 'H10O'; did you mean H100?",
        "    3 │ gpus: {type: H10O}",
        "      │              ^^^^",
    ]
    assert said.code == 2
    assert api.seen == []


def test_a_wrong_spec_as_json_names_its_place(api: FakeApi, spec: Path) -> None:
    spec.write_text("name: a\nrun: x\ngpus: {type: H10O}\n")

    def refuse(request: Request) -> None:
        raise Refusal(422, code="E422", message="gpus.type.0: unknown GPU 'H10O'", where="gpus.type.0")

    api.on("POST", "/v1/plan", refuse)
    for command in ("plan", "submit"):
        error = json.loads(dsched(command, spec, "-o", "json").err)["error"]
        assert error["code"] == "E101"
        assert error["where"] == f"{spec}:3:14"
        assert error["retryable"] is False


def test_a_wrong_spec_is_told_before_a_daemon_that_is_not_there(tmp_path: Path, spec: Path) -> None:
    spec.write_text("name: a\nrun: x\ngpus: {type: H10O}\n")
    said = dsched("plan", spec, "--server", tmp_path / "none.sock")
    assert "unknown GPU 'H10O'" in said.err
    assert said.code == 2
