"""Commands that only look: tables, their forms, and what is paid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli import dsched
from tests.support.fake_api import FakeApi, Stream, log_line
from tests.tui import fleet


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


def test_a_hostile_job_reaches_no_terminal_raw(api: FakeApi) -> None:
    evil = "\x1b]0;owned\x07\u202e[/bold]\n"
    job = fleet.job(name=evil, reason=evil, user=evil, where=evil, state="queued")
    api.on("GET", "/v1/jobs", [job])
    api.on("GET", "/v1/jobs/j12", job)
    api.on("GET", "/v1/events", [fleet.event(1, evil, evil, job=evil, node=evil)])
    api.on("GET", "/v1/jobs/j12/explain", [fleet.plan(name=evil, need=evil, summary=evil, policy=evil, id=evil)])
    api.on("GET", "/v1/jobs/j12/logs", Stream(log_line(1, 0, evil)))
    told = ("ps", "ps -o wide", "ps -o csv", "ps -o json", "events", "explain j12", "logs j12", "cancel j12",
            "wait j12 --for queued")  # fmt: skip
    for argv in told:
        said = dsched(*argv.split())
        assert not {"\x1b", "\x07", "\u202e"} & set(said.out + said.err), argv
