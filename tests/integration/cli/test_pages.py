"""Long lists: a table shows a page and says so, a program gets everything, and neither reads more than it must."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import dsched
from tests.support.fake_api import FakeApi, Request, serving
from tests.tui import fleet


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    with serving(tmp_path / "api.sock") as fake:
        fake.on("GET", "/v1/health", fleet.health())
        fake.on("GET", "/v1/money", fleet.money())
        monkeypatch.setenv("DSCHED_SERVER", str(fake.path))
        monkeypatch.setenv("NO_COLOR", "1")
        yield fake


def paged(rows: list[Any]) -> Any:
    """The list of jobs as the daemon gives it: so many, a row on each line, and how many more there are."""

    def answer(request: Request) -> bytes:
        ids = [row["id"] for row in rows]
        begin = ids.index(request.query["after"]) + 1 if "after" in request.query else 0
        most = min(4, int(request.query["limit"]))
        part, more = rows[begin : begin + most], max(0, len(rows) - begin - most)
        lines = ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in part)
        return f'{{"v":1,"more":{more},"items":[{lines}]}}'.encode()

    return answer


def test_a_table_shows_a_page_and_says_how_many_more_there_are(api: FakeApi) -> None:
    api.on("GET", "/v1/jobs", paged([fleet.job(n) for n in range(1, 10)]))
    said = dsched("ps")
    assert api.asked("GET", "/v1/jobs")[0].query == {"limit": "100"}
    assert len(said.out.splitlines()) == 5
    assert "and 5 more: dsched ps -l 0" in said.err
    assert dsched("ps", "-l", "4", "-r").out.splitlines()[1].split()[0] == "j4"


@pytest.mark.parametrize("argv", [("-o", "json"), ("-o", "jsonl"), ("-o", "csv"), ("-q",), ("-l", "0")])
def test_a_program_gets_every_job_however_many_pages_there_are(api: FakeApi, argv: tuple[str, ...]) -> None:
    """A list that ends somewhere without saying so is believed."""
    api.on("GET", "/v1/jobs", paged([fleet.job(n, name="naïve\u202e") for n in range(1, 10)]))
    said = dsched("ps", *argv)
    if argv[-1] == "json":
        found = [row["id"] for row in said.json["items"]]
    elif argv[-1] == "jsonl":
        found = [json.loads(line)["id"] for line in said.out.splitlines()]
    else:
        found = [line.replace(",", " ").split()[0] for line in said.out.splitlines() if line.startswith("j")]
    assert [name for name in found if name != "job"] == [f"j{n}" for n in range(1, 10)]
    assert "\u202e" not in said.out
    assert "more" not in said.err


def test_a_sort_looks_at_every_job_not_at_a_page(api: FakeApi) -> None:
    api.on("GET", "/v1/jobs", paged([fleet.job(n, spent=f"{n}.00") for n in range(1, 10)]))
    said = dsched("ps", "--sort", "spent", "-r", "-l", "2")
    assert [line.split()[0] for line in said.out.splitlines()[1:]] == ["j9", "j8"]
    assert "and 7 more" in said.err


def test_a_report_shows_the_dearest_and_says_how_many_it_leaves_out(api: FakeApi) -> None:
    api.on("GET", "/v1/jobs", paged([fleet.job(n) for n in range(1, 10)]))
    assert "and 5 cheaper ones" in dsched("report").out
    assert api.asked("GET", "/v1/jobs")[0].query == {"all": "1", "limit": "100", "first": "dearest"}
    assert len(dsched("report", "-o", "csv").out.splitlines()) == 10
