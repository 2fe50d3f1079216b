"""Commands that change something: what they ask a person, what they send, what needs force."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.cli import dsched
from tests.support.fake_api import FakeApi, Request
from tests.tui import fleet


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
