"""`dsched plan` and `dsched explain`: the cost table, the other world beside it, the stored decision."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.cli import dsched
from tests.support.fake_api import FakeApi
from tests.tui import fleet


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
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


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
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_plan_ends_with_6_when_nothing_fits(api: FakeApi, spec: Path) -> None:
    api.on("POST", "/v1/plan", fleet.plan(chosen=None, summary="no offer fits: 8xB200 in us-*"))
    said = dsched("plan", spec)
    assert said.code == 6
    assert "✗ no offer fits" in said.out


def test_plan_as_json_is_the_plan(api: FakeApi, spec: Path) -> None:
    assert dsched("plan", spec, "-o", "json").json["id"] == "d-8f31c2"


def test_explain_prints_the_stored_decision(api: FakeApi) -> None:
    said = dsched("explain", "moe-ft")
    assert "decided" in said.out
    assert "A100 has no FP8" in said.out
    assert "now ● running" in said.out
    assert dsched("explain", "moe-ft", "-o", "json").json["items"][0]["id"] == "d-8f31c2"
