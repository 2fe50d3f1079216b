"""Tables keep their numbers, whatever the width."""

from __future__ import annotations

import csv
import io

import pytest

from dsched.scheduler.core.units import Instant, Moment
from dsched.scheduler.view.column import Column, order, select, standard
from dsched.scheduler.view.columns import ATTEMPTS, BILL, BUDGETS, CHECKS, EVENTS, JOBS, NODES, OFFERS, plan_columns
from dsched.scheduler.view.table import cells_wide, csv_text, shorten, table
from dsched.scheduler.wire.api import Job
from tests.tui import fleet

NOW = Moment(Instant(fleet.WALL), Instant(fleet.MARKET))
ALL = (*JOBS, *OFFERS, *NODES, *EVENTS, *BILL, *ATTEMPTS, *BUDGETS, *CHECKS, *plan_columns(fleet.plan()))


def lines(rows: list[Job], width: int | None = None) -> list[str]:
    return table(standard(JOBS), rows, NOW, width=width, colour=False)


def test_a_pipe_gets_everything() -> None:
    (_, row) = lines([fleet.job(name="a-name-that-is-long-enough-to-be-cut-in-any-terminal")])
    assert "a-name-that-is-long-enough-to-be-cut-in-any-terminal" in row
    assert "aws/use2-az2 p5.48xlarge spot" in row


@pytest.mark.parametrize("width", [200, 150, 120, 100, 80])
def test_every_line_fits_and_no_number_is_cut(width: int) -> None:
    rows = [fleet.job(), *fleet.jobs(50)]
    shown = lines(rows, width)
    assert max(map(cells_wide, shown)) <= width
    for line, row in zip(shown[1:], rows, strict=True):
        assert f"{float(row['spent']):,.2f}" in line
        assert row["id"] in line


def test_the_least_important_column_goes_first() -> None:
    rows = [fleet.job()]
    assert "SLACK" in lines(rows)[0]
    assert "SLACK" not in lines(rows, 110)[0]
    narrow = lines(rows, 60)[0]
    assert "WHERE" not in narrow
    assert "SPENT" in narrow


def test_text_is_shortened_before_a_column_goes() -> None:
    rows = [fleet.job(name="x" * 40)]
    wide = cells_wide(lines(rows)[1])
    header, row = lines(rows, wide - 20)
    assert "…" in row
    assert header.split() == lines(rows)[0].split()


def test_a_column_that_is_empty_everywhere_is_left_out() -> None:
    offers = [fleet.offer(0, history=[])]
    assert "24H" not in table(standard(OFFERS), offers, NOW, width=None, colour=False)[0]
    assert "24H" in table(standard(OFFERS), [fleet.offer(0)], NOW, width=None, colour=False)[0]


def test_colour_adds_nothing_but_colour() -> None:
    rows = fleet.jobs(5)
    painted = table(standard(JOBS), rows, NOW, width=120, colour=True)
    plain = table(standard(JOBS), rows, NOW, width=120, colour=False)
    for line, bare in zip(painted, plain, strict=True):
        for code in ("0", "1", "2", "31", "32", "33"):
            line = line.replace(f"\x1b[{code}m", "")
        assert line.rstrip() == bare


def test_a_hostile_name_is_visible_in_the_table() -> None:
    row = lines([fleet.job(name="\x1b]0;x\x07[/bold]")])[1]
    assert "\x1b" not in row
    assert "\\x1b]0;x\\x07[/bold]" in row


def test_csv_holds_exact_values_and_no_formulas() -> None:
    text = csv_text(JOBS, [fleet.job(name="=1+1", spent="1234567.891234", next="")])
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["spent"] == "1234567.891234"
    assert row["name"] == "'=1+1"
    assert row["state"] == "running"
    assert row["slack"] == "4320.0"


def test_rows_without_a_value_sort_last_either_way() -> None:
    eta = select(JOBS, ["eta"])[0]
    rows = [fleet.job(1, eta_s=None), fleet.job(2, eta_s=5.0), fleet.job(3, eta_s=1.0)]
    assert [r["id"] for r in order(rows, eta)] == ["j3", "j2", "j1"]
    assert [r["id"] for r in order(rows, eta, reverse=True)] == ["j2", "j3", "j1"]


def test_an_unknown_column_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no column 'cost'; there are: job, name"):
        select(JOBS, ["cost"])


def test_money_sorts_as_money() -> None:
    spent = select(JOBS, ["spent"])[0]
    rows = [fleet.job(1, spent="9.00"), fleet.job(2, spent="100.00")]
    assert [r["id"] for r in order(rows, spent)] == ["j1", "j2"]


@pytest.mark.parametrize("columns", [JOBS, OFFERS, NODES, EVENTS, BILL, ATTEMPTS, BUDGETS, CHECKS], ids=len)
def test_names_are_unique_in_a_table(columns: tuple[Column[object], ...]) -> None:
    assert len({c.name for c in columns}) == len(columns)


def test_numbers_stand_right_and_are_never_squeezed() -> None:
    assert [c.name for c in ALL if c.align == "right" and c.flex] == []


def test_a_plan_without_known_work_ranks_by_the_useful_hour() -> None:
    bare = [fleet.line(0, expected=None, compute=None, redo=None, move=None, finish=None, hours=None)]
    titles = [c.title for c in plan_columns(fleet.plan(lines=bare))]
    assert "$/USEFUL H" in titles
    assert "EXPECTED" not in titles


def test_a_plan_says_how_much_dearer_the_others_are() -> None:
    shown = table(standard(plan_columns(fleet.plan())), fleet.plan()["lines"], NOW, width=None, colour=False)
    assert "▶" in shown[1]
    assert "+14%" in shown[2]
    assert "✗" in shown[4]


def test_wide_characters_count_twice() -> None:
    assert cells_wide("模型") == 4
    assert cells_wide("e\u0301") == 1
    assert shorten("模型模型", 5) == "模型…"


def test_an_offer_that_was_refused_unsized_is_not_shown_as_one_without_gpus() -> None:
    plan = fleet.plan(lines=[fleet.line(2, verdict="refused", nodes=0, gpus=0, why="A100-40; the job wants H100")])
    (_, row) = table(plan_columns(plan), plan["lines"], NOW, width=None, colour=False)
    assert "cpu" not in row
