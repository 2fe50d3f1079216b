"""Each command against a scripted daemon on a real socket: what it asks, what it prints, how it ends."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dsched.scheduler.cli.main import COMMANDS
from tests.support.cli import Said
from tests.support.cli import dsched as call
from tests.support.fake_api import FakeApi, Refusal, Request, Stream, serving
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


def dsched(*argv: str | Path, **how: Any) -> Said:
    return call(*map(str, argv), **how)


def test_ps_shows_jobs_their_money_and_why_one_waits(api: FakeApi) -> None:
    said = dsched("ps")
    header, first, *_ = said.out.splitlines()
    assert header.split()[:3] == ["JOB", "NAME", "STATE"]
    assert "● running" in first
    assert "1,064.10" in first
    assert "j11 waits: no offer fits     dsched explain j11" in said.err
    assert said.code == 0


def test_ps_passes_its_filters_on(api: FakeApi) -> None:
    dsched("ps", "-a", "--state", "running,paused", "--user", "ana", "-l", "5")
    (asked,) = api.asked("GET", "/v1/jobs")
    assert asked.query == {"all": "1", "state": "running,paused", "user": "ana", "limit": "5"}


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_table_keeps_within_the_terminal(api: FakeApi, width: int) -> None:
    assert max(map(len, dsched("ps", tty=True, width=width).out.splitlines())) <= width


def test_a_list_can_be_had_in_every_form(api: FakeApi) -> None:
    assert dsched("ps", "-o", "json").json["v"] == 1
    assert [row["id"] for row in dsched("ps", "-o", "json").json["items"]] == ["j12", "j11"]
    assert json.loads(dsched("ps", "-o", "jsonl").out.splitlines()[1])["id"] == "j11"
    assert dsched("ps", "-o", "name").out == dsched("ps", "-q").out == "j12\nj11\n"
    assert dsched("ps", "-o", "csv", "--columns", "job,spent").out == "job,spent\nj12,526.23\nj11,526.23\n"
    assert dsched("ps", "--columns", "spent,job").out.splitlines()[0].split() == ["SPENT", "JOB"]
    assert "REASON" in dsched("ps", "-o", "wide").out


def test_ps_sorts(api: FakeApi) -> None:
    assert dsched("ps", "-q", "--sort", "job").out == "j11\nj12\n"
    assert dsched("ps", "-q", "--sort", "job", "-r").out == "j12\nj11\n"


def test_plan_prints_the_cost_table_and_its_id(api: FakeApi, spec: Path) -> None:
    said = dsched("plan", spec, "--set", "max_price=30")
    assert "EXPECTED" in said.out
    assert "▶ aws/use2-az2 p5.48xlarge spot is the cheapest to finish: $81.90" in said.out
    assert "refused: 5 cooling, 1 no-fp8" in said.out
    assert "plan d-8f31c2" in said.out
    assert f"dsched submit {spec} --plan d-8f31c2" in said.err
    assert api.asked("POST", "/v1/plan")[0].json["spec"]["max_price"] == 30
    assert said.code == 0


def test_plan_leaves_the_checking_to_the_daemon_which_has_loaded_what_checks(api: FakeApi, spec: Path) -> None:
    """Half of the command's time went into loading it here."""
    code = f"import sys; from dsched.scheduler.cli.main import run; run(['plan', {str(spec)!r}])\n"
    code += "assert 'pydantic' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=30)


def test_a_plan_of_a_folder_ships_nothing(api: FakeApi, spec: Path) -> None:
    spec.write_text("name: a\nrun: x\nworkdir: src\n")
    assert dsched("plan", spec).code == 0
    assert [(r.method, r.path) for r in api.seen if r.method != "GET"] == [("POST", "/v1/plan")]


def what_if(**changed: Any) -> Any:
    then = fleet.plan(**changed)
    return fleet.plan(what_if={"changes": ["gone:use2-az2", "price*1.2"], "plan": then})


def test_what_if_shows_before_and_after_side_by_side(api: FakeApi, spec: Path) -> None:
    lines = [fleet.line(1, verdict="chosen", expected="112.08", why=""), fleet.line(0, verdict="refused", why="gone")]
    api.on("POST", "/v1/plan", what_if(lines=lines, chosen=fleet.pool(1), summary="the next one: $112.08"))
    said = dsched("plan", spec, "--what-if", "gone:use2-az2", "--what-if", "price*1.2")
    assert api.asked("POST", "/v1/plan")[0].json["what_if"] == ["gone:use2-az2", "price*1.2"]
    assert "what if  gone:use2-az2" in said.out
    figures = {words[0]: words for text in said.out.splitlines() if (words := text.split())}
    assert figures["expected"][1:] == ["$81.90", "$112.08"]
    assert "▶ now      aws/use2-az2" in said.out
    assert "▶ what if  the next one: $112.08" in said.out
    assert "--plan" not in said.err  # what would be chosen in another world cannot be submitted
    assert said.code == 0


def test_what_if_in_json_has_both_plans_and_csv_a_row_per_offer(api: FakeApi, spec: Path) -> None:
    api.on("POST", "/v1/plan", what_if(chosen=None, lines=[fleet.line(0, verdict="refused", code="no-capacity")]))
    said = dsched("plan", spec, "--what-if", "gone:*", "-o", "json")
    told = json.loads(said.out)
    assert (told["chosen"], told["what_if"]["plan"]["chosen"]) == (fleet.pool(0), None)
    assert said.code == 6
    rows = dsched("plan", spec, "--what-if", "gone:*", "-o", "csv").out.splitlines()
    assert rows[0] == "offer,now,price,expected,then,then_price,then_expected,why"
    assert len(rows) == 1 + len(fleet.plan()["lines"])


def test_what_if_does_not_load_what_reads_changes(api: FakeApi, spec: Path) -> None:
    api.on("POST", "/v1/plan", what_if())
    code = "import sys; from dsched.scheduler.cli.main import run\n"
    code += f"code = run(['plan', {str(spec)!r}, '--what-if', 'price*2'])\n"
    code += "assert code == 0 and not {'numpy', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=30)


def test_plan_ends_with_6_when_nothing_fits(api: FakeApi, spec: Path) -> None:
    api.on("POST", "/v1/plan", fleet.plan(chosen=None, summary="no offer fits: 8xB200 in us-*"))
    said = dsched("plan", spec)
    assert said.code == 6
    assert "✗ no offer fits" in said.out


def test_plan_as_json_is_the_plan(api: FakeApi, spec: Path) -> None:
    assert dsched("plan", spec, "-o", "json").json["id"] == "d-8f31c2"


def test_submit_detached_says_the_id_and_sends_a_key(api: FakeApi, spec: Path) -> None:
    said = dsched("submit", spec, "-d")
    assert (said.code, said.out) == (0, "j12\n")
    (asked,) = api.asked("POST", "/v1/jobs")
    assert asked.json["spec"]["name"] == "moe-ft"
    assert len(asked.json["key"]) == 32


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
    api.on("GET", "/v1/jobs/j12/logs", Stream(_line(1, 0, "step 1"), _line(1, 7, "step 2")))
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


def test_logs_are_one_story_across_moves(api: FakeApi) -> None:
    api.on(
        "GET", "/v1/jobs/j12/logs", Stream(_line(1, 0, "step 1"), b"\n", _line(2, 0, "\x1b[31mstep 2\x1b[0m\x1b[2J"))
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
        first = _line(1, 7, "step 1")
        return Stream(first, _line(1, 14, "step 2")) if again else Stream(first, breaks=True)

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


def test_explain_prints_the_stored_decision(api: FakeApi) -> None:
    said = dsched("explain", "moe-ft")
    assert "decided" in said.out
    assert "A100 has no FP8" in said.out
    assert "now ● running" in said.out
    assert dsched("explain", "moe-ft", "-o", "json").json["items"][0]["id"] == "d-8f31c2"


def test_cancel_names_the_money_and_asks(api: FakeApi) -> None:
    said = dsched("cancel", "moe-ft", "--now", tty=True, typed="\n")
    assert "cancel moe-ft (j12) for good? it has spent $526.23 and burns $17.92/h; 90 steps" in said.err
    assert api.asked("POST", "/v1/jobs/j12/cancel") == []
    said = dsched("cancel", "moe-ft", tty=True, typed="y\n")
    assert "j12 ◆ draining: asked by ana, kept: step 48,120" in said.out
    (asked,) = api.asked("POST", "/v1/jobs/j12/cancel")
    assert asked.json == {}


@pytest.mark.parametrize("action", ["pause", "cancel"])
def test_a_script_is_not_asked(api: FakeApi, action: str) -> None:
    assert dsched(action, "j12").code == 0
    assert len(api.asked("POST", f"/v1/jobs/j12/{action}")) == 1


@pytest.mark.parametrize("action", ["resume", "checkpoint"])
def test_what_costs_nothing_is_done_at_once(api: FakeApi, action: str) -> None:
    assert dsched(action, "j12", tty=True).code == 0
    assert len(api.asked("POST", f"/v1/jobs/j12/{action}")) == 1


def _migration(gain: str) -> Any:
    def answer(request: Request) -> Any:
        if request.json.get("dry_run"):
            return {"plan": fleet.plan(chosen=fleet.pool(1)), "gain": {"per_hour": gain, "from": "17.92", "to": "9.42"}}
        return fleet.job(state="draining", next=fleet.pool(1))

    return answer


def test_migrate_shows_its_gain_and_asks(api: FakeApi) -> None:
    api.on("POST", "/v1/jobs/j12/migrate", _migration("8.50"))
    said = dsched("migrate", "j12", "--to", "aws/*", tty=True, typed="y\n")
    assert "move moe-ft (j12) to aws/use1-az1 p5.48xlarge spot? it saves $8.50/h" in said.err
    trial, move = api.asked("POST", "/v1/jobs/j12/migrate")
    assert (trial.json, move.json) == ({"dry_run": True, "to": "aws/*"}, {"to": "aws/*"})


def test_a_move_that_loses_money_needs_force(api: FakeApi) -> None:
    api.on("POST", "/v1/jobs/j12/migrate", _migration("-3.00"))
    said = dsched("migrate", "j12")
    assert said.code == 6
    assert "staying is cheaper: it costs $3.00/h" in said.err
    assert dsched("migrate", "j12", "--force").code == 0


def test_a_dry_run_moves_nothing(api: FakeApi) -> None:
    api.on("POST", "/v1/jobs/j12/migrate", _migration("8.50"))
    assert "it saves $8.50/h" in dsched("migrate", "j12", "--dry-run").out
    assert [r.json for r in api.asked("POST", "/v1/jobs/j12/migrate")] == [{"dry_run": True}]


def test_prices_are_sorted_by_gpu_and_filtered(api: FakeApi) -> None:
    rows = dsched("prices", "h100", "--market", "spot", "-o", "json").json["items"]
    assert [row["per_gpu"] for row in rows] == ["2.24", "2.41", "3.14"]
    assert "24H" in dsched("prices", "--history").out
    assert api.asked("GET", "/v1/offers")[-1].query == {"history": "1"}


def test_no_offer_of_a_model_ends_with_6_and_says_which_there_are(api: FakeApi) -> None:
    said = dsched("prices", "B200")
    assert said.code == 6
    assert "GPUs on offer: A100, H100, L40S" in said.err


def test_nodes_show_what_is_paid(api: FakeApi) -> None:
    assert "n1.0" in dsched("nodes").out
    api.on("GET", "/v1/nodes", [])
    assert "no nodes: nothing is being paid for" in dsched("nodes").err


def test_events_are_listed(api: FakeApi) -> None:
    said = dsched("events", "--job", "j12", "-l", "3")
    assert "interrupted by the cloud 118 s after its notice" in said.out
    assert api.asked("GET", "/v1/events")[0].query == {"job": "j12", "limit": "3"}


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


def test_budget_lists_and_sets(api: FakeApi) -> None:
    assert "48,212.00" in dsched("budget").out
    api.on("PUT", "/v1/budgets/team-llm", fleet.budget(limit="90000.00"))
    said = dsched("budget", "set", "team-llm", "$90,000", tty=True, typed="y\n")
    assert "set budget team-llm from $80,000.00 to $90,000.00? spent: $48,212.00" in said.err
    assert api.asked("PUT", "/v1/budgets/team-llm")[0].json == {"limit": "90000"}
    dsched("budget", "set", "team-llm", "none")
    assert api.asked("PUT", "/v1/budgets/team-llm")[1].json == {"limit": None}


@pytest.mark.parametrize("argv", [("set",), ("set", "x"), ("set", "x", "lots"), ("frobnicate",)])
def test_a_wrong_budget_is_a_usage_error(api: FakeApi, argv: tuple[str, ...]) -> None:
    assert dsched("budget", *argv).code == 2


def test_report_is_the_bill_against_on_demand(api: FakeApi) -> None:
    said = dsched("report", "j12")
    assert "spent $12.00, saved $8.00 (40%) under on-demand at $20.00" in said.out
    assert "made-up market, 600x" in said.out
    assert dsched("report", "j12", "-o", "json").json["saved"] == "8.00"
    assert dsched("report", "j12", "-o", "csv").out.startswith("node,where,kind")
    assert "spent $48,212.00, saved $111,403.40 (70%)" in dsched("report").out


def test_info_names_socket_clocks_and_providers(api: FakeApi) -> None:
    said = dsched("info")
    assert str(api.path) in said.out
    assert "provider   aws ✔ ok, 12 nodes, prices 41s old" in said.out


def test_doctor_checks_the_host_and_the_daemon(api: FakeApi, tmp_path: Path) -> None:
    said = dsched("doctor", DSCHED_STATE=str(tmp_path))
    assert said.code == 0
    assert [line.split()[2] for line in said.out.splitlines()[1:]] == [
        "python",
        "state",
        "disk",
        "daemon",
        "clock",
        "sqlite",
    ]


def test_doctor_without_a_daemon_fails_and_says_the_command(tmp_path: Path) -> None:
    said = dsched("doctor", "--server", tmp_path / "none.sock", DSCHED_STATE=str(tmp_path))
    assert said.code == 1
    assert "✖ fail" in said.out
    assert "dsched daemon" in said.out


def test_no_daemon_is_said_with_its_remedy(tmp_path: Path) -> None:
    said = dsched("ps", "--server", tmp_path / "api.sock")
    assert said.code == 3
    assert said.err.splitlines() == [
        f"error[E301] no daemon at {tmp_path}/api.sock (no such file or directory)",
        "  do    dsched daemon     or     dsched demo     (needs no daemon)",
    ]


def test_failures_are_json_where_json_was_asked_for(tmp_path: Path) -> None:
    said = dsched("ps", "--server", tmp_path / "api.sock", "-o", "json")
    assert said.out == ""
    assert json.loads(said.err)["error"]["code"] == "E301"


def test_an_unknown_job_ends_with_5(api: FakeApi) -> None:
    assert dsched("cancel", "j99").code == 5


@pytest.mark.parametrize(("status", "code"), [(403, 4), (404, 5), (406, 6), (402, 7), (422, 2), (429, 1), (503, 1)])
def test_refusals_have_their_own_ends(api: FakeApi, status: int, code: int) -> None:
    def refuse(_: Request) -> None:
        raise Refusal(status, code=f"E{status}", message="no")

    api.on("GET", "/v1/jobs", refuse)
    assert dsched("ps").code == code


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("pss",), "No such command 'pss'. Did you mean 'ps'?"),
        (("ps", "--frob"), "No such option: --frob"),
        (("ps", "-l", "many"), "'many' is not a number"),
        (("ps", "-o", "xml"), "no output format 'xml'"),
        (("ps", "--columns", "cost"), "no column 'cost'; there are: job, name"),
        (("ps", "--server", "https://x"), "'https://x' is no unix socket"),
        (("logs",), "Missing argument 'JOB'"),
        (("wait", "j12", "--for", "suceeded"), "cannot wait for 'suceeded'; did you mean succeeded?"),
        (("wait", "j12", "--timeout", "5"), "--timeout: '5' has no unit; write 5s, 5m or 5h"),
        (("plan", "/nowhere.yaml"), "/nowhere.yaml: no such file or directory"),
        (("completion", "tcsh"), "no completion for 'tcsh'"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_says_why(api: FakeApi, argv: tuple[str, ...], said: str) -> None:
    result = dsched(*argv)
    assert said in result.err
    assert result.err.startswith("error[E1")
    assert result.code == 2


def test_a_hostile_job_reaches_no_terminal_raw(api: FakeApi) -> None:
    evil = "\x1b]0;owned\x07\u202e[/bold]\n"
    job = fleet.job(name=evil, reason=evil, user=evil, where=evil, state="queued")
    api.on("GET", "/v1/jobs", [job])
    api.on("GET", "/v1/jobs/j12", job)
    api.on("GET", "/v1/events", [fleet.event(1, evil, evil, job=evil, node=evil)])
    api.on("GET", "/v1/jobs/j12/explain", [fleet.plan(name=evil, need=evil, summary=evil, policy=evil, id=evil)])
    api.on("GET", "/v1/jobs/j12/logs", Stream(_line(1, 0, evil)))
    told = ("ps", "ps -o wide", "ps -o csv", "ps -o json", "events", "explain j12", "logs j12", "cancel j12",
            "wait j12 --for queued")  # fmt: skip
    for argv in told:
        said = dsched(*argv.split())
        assert not {"\x1b", "\x07", "\u202e"} & set(said.out + said.err), argv


def test_the_schema_is_json(api: FakeApi) -> None:
    assert dsched("schema").json["title"] == "dsched job"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion_scripts_are_printed(api: FakeApi, shell: str) -> None:
    assert "_DSCHED_COMPLETE" in dsched("completion", shell).out


def process(*argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dsched", *argv]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environ, timeout=30, check=False)


def test_as_a_process_it_ends_as_it_says(api: FakeApi) -> None:
    done = process("ps", "-q")
    assert (done.returncode, done.stdout) == (0, "j12\nj11\n")
    assert process("cancel", "j99").returncode == 5


def test_job_names_are_completed_by_the_daemon(api: FakeApi) -> None:
    words = {"COMP_WORDS": "dsched logs j", "COMP_CWORD": "2", "_DSCHED_COMPLETE": "complete_bash"}
    assert process(**words).stdout.split() == ["j12", "j11"]


def test_commands_are_completed_without_a_daemon() -> None:
    words = {"COMP_WORDS": "dsched pr", "COMP_CWORD": "1", "_DSCHED_COMPLETE": "complete_bash"}
    assert process(**words).stdout.split() == ["prices"]


def test_a_reader_that_has_enough_is_no_failure(api: FakeApi) -> None:
    api.on("GET", "/v1/jobs", fleet.jobs(3_000))
    command = f"{sys.executable} -m dsched ps | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.splitlines()[1] == "0"
    assert "Traceback" not in done.stderr


def test_a_terminal_without_utf8_still_gets_its_table(api: FakeApi) -> None:
    done = process("ps", PYTHONIOENCODING="ascii")
    assert "* running" in done.stdout
    assert done.returncode == 0


def test_the_help_says_what_each_command_says_of_itself() -> None:
    for entry in COMMANDS:
        if not entry.process:
            said = dsched(entry.name, "--help")
            assert said.code == 0
            assert entry.help in " ".join(said.out.split()), entry.name
            assert "--server" in said.out
    top = dsched("--help").out
    for entry in COMMANDS:
        assert entry.help in " ".join(top.split()), entry.name


def test_the_version_is_told() -> None:
    assert dsched("--version").out == "dsched 0.1.0\n"


def _line(generation: int, offset: int, text: str) -> bytes:
    return json.dumps({"generation": generation, "rank": 0, "offset": offset, "text": text}).encode() + b"\n"


class _Silent(Stream):
    """An event stream on which nothing happens for a while."""

    def __init__(self) -> None:
        super().__init__(media="text/event-stream")
        self.parts = _Slow()  # type: ignore[assignment]


class _Slow:
    def __iter__(self) -> Iterator[bytes]:
        yield b": alive\n\n"
        threading.Event().wait(2)
