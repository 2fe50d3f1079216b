"""Which columns fit, and how a cell is padded."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from dsched.scheduler.view.column import standard
from dsched.scheduler.view.columns import JOBS
from dsched.tui.widgets.layout import GAP, fit, pad
from dsched.tui.widgets.spark import spark

COLUMNS = standard(JOBS)


@pytest.mark.parametrize("width", range(60, 240, 7))
def test_the_columns_fill_the_width_and_never_more(width: int) -> None:
    shown = fit(COLUMNS, width)
    assert sum(w + GAP for _, w in shown) - GAP == width


def test_columns_go_by_priority_and_those_that_matter_stay() -> None:
    names = [c.name for c, _ in fit(COLUMNS, 76)]
    assert names == ["job", "name", "state", "burn", "spent", "saved", "done", "eta"]
    assert {"job", "name", "state", "spent"} <= {c.name for c, _ in fit(COLUMNS, 40)}


def test_a_column_is_at_least_as_wide_as_the_widest_number_seen_in_it() -> None:
    shown = {c.name: w for c, w in fit(COLUMNS, 120, {"spent": 14})}
    assert shown["spent"] == 14


@pytest.mark.parametrize("text", ["a", "moe-pretrain-4f2a", "日本語の名前", "e\u0301e\u0301", "", "…", "👩‍👩‍👧"])
@pytest.mark.parametrize("align", ["left", "right"])
def test_a_padded_cell_has_exactly_its_width(text: str, align: str) -> None:
    for width in (4, 7, 12):
        assert cell_len(pad(text, width, align)) == width  # type: ignore[arg-type]


def test_a_line_of_prices_has_no_full_block_and_keeps_its_scale() -> None:
    line = spark([0.0, 5.0, 10.0], 10, low=0.0, high=10.0)
    assert line == "▁▄▇"
    assert spark([9.0, 9.5, 10.0], 10, low=0.0, high=10.0)[0] == "▆"
    assert len(spark([float(i) for i in range(1_000)], 24)) == 24
    assert "█" not in spark([1.0, 2.0, 3.0], 3)
