"""Prices from a file: every set of columns, every mistake by line and remedy, and nothing taken by halves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dsched.scheduler import pricebook
from dsched.scheduler.core.units import Instant, price
from dsched.scheduler.engine.journal import FOLDER, read
from dsched.scheduler.pricebook import Imported, chips
from dsched.scheduler.pricefile import FOUND_MAX, BadFile, Found, parse
from tests.support.checkout import text

NOW = Instant(1_795_300_000_000)  # November 2026
OLD = Instant(NOW - 86_400_000)
HEAD = "provider,region,zone,instance_type,price_kind,usd_per_hour,source\n"
GOOD = "aws,us-east-1,use1-az4,g6.xlarge,spot,0.33,\n"


def taken(given: str, *, as_of: Instant | None = OLD) -> Found:
    return parse(given, "p.csv", as_of=as_of, now=NOW, chips=chips)


def refused(given: str, *, as_of: Instant | None = OLD) -> str:
    with pytest.raises(BadFile) as bad:
        taken(given, as_of=as_of)
    return str(bad.value)


def test_every_example_of_the_page_can_be_taken() -> None:
    examples = text(Path("docs/reference/prices.md")).split("```csv\n")[1:]
    assert len(examples) == 4
    for example in examples:
        found = taken(example.partition("```")[0])
        assert found.rows or found.buckets


def test_comments_quotes_and_a_byte_order_mark_are_fine() -> None:
    [row] = taken("\ufeff# whence\n" + HEAD + '\naws,us-east-1,,g6.xlarge,on_demand,0.9,"ours, signed"\n').rows
    assert (row.price, row.at, row.zone, row.source) == (price(0.9), OLD, "", "imported, ours, signed")


def test_a_chip_price_is_the_price_of_every_machine_with_such_chips() -> None:
    rows = taken("provider,region,tpu,price_kind,usd_per_chip_hour\ngcp,us-east5,TPU-v6e,spot,1.5\n").rows
    assert {row.shape: row.price for row in rows}["ct6e-standard-8t"] == price(12)


@pytest.mark.parametrize("head", ["provider,region\raws,us-east-1\r", f"provider,{'x' * 200_000}\n"])
def test_a_line_of_column_names_that_is_none_is_named(head: str) -> None:
    assert refused(head).startswith("p.csv:1: ")


def test_a_table_over_days_has_holes_and_dates_of_its_own() -> None:
    head = "date,commit,machine,region,hour_od,hour_spot,hour_cud1y,hour_cud3y\n"
    rows = taken(head + "2026-10-01,x,a3-highgpu-8g,us-east4,80.5,0.0,,44\n", as_of=None).rows
    assert [(row.kind, row.price) for row in rows] == [("on-demand", price(80.5)), ("cud-3y", price(44))]
    assert {row.at for row in rows} == {Instant(1_790_812_800_000)}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("aws,us-east-1,us-east-1a,g6.xlarge,spot,0.3,", "one looks like use1-az4: the id"),
        ("aws,us-central1,,g6.xlarge,spot,0.3,", "is no region of aws; one looks like us-east-1"),
        ("azure,eastus,,x,spot,0.3,", "must be aws or gcp"),
        ("aws,us-east-1,,g6.xlarge,sport,0.3,", "price_kind = 'sport': must be one of"),
        ("aws,us-east-1,,g6.xlarge,spot,0,", "leave an unknown price out"),
        ("aws,us-east-1,,g6.xlarge,spot,nan,", "is no price"),
        ("aws,us-east-1,,g6.xlarge,spot,-1,", "is no price"),
        ("aws,us-east-1,,g6.xlarge,spot,12345678,", "must be above 0 and at most 10000"),
        ("aws,us-east-1,,G6 xlarge,spot,0.3,", "is no instance type"),
        ("aws,us-east-1,,g6.xlarge,spot", "5 values for 7 columns"),
        ('aws,us-east-1,,g6.xlarge,spot,"0.3,', "quote"),
    ],
)
def test_a_wrong_row_is_named_with_its_line_and_the_remedy(row: str, words: str) -> None:
    said = refused(HEAD + GOOD + row + "\n")
    assert said.startswith("p.csv:3: ")
    assert words in said


def test_an_age_is_never_guessed() -> None:
    assert "--as-of" in refused(HEAD + GOOD, as_of=None)
    assert "has not come yet" in refused("date," + HEAD + "2030-01-01," + GOOD)


def test_two_prices_for_one_thing_are_a_mistake_and_twice_the_same_is_none() -> None:
    assert "another price than line 2 has" in refused(HEAD + GOOD + GOOD.replace("0.33", "0.34"))
    assert len(taken(HEAD + GOOD + GOOD).rows) == 1


def test_complaints_are_bounded_and_counted() -> None:
    said = refused(HEAD + "azure,x,,y,spot,1,\n" * 50).splitlines()
    assert len(said) == FOUND_MAX + 1
    assert said[-1] == "and 30 more"


def test_columns_that_say_nothing_of_prices_are_answered_with_those_that_do() -> None:
    said = refused("gpu,vendor,year\nH100,nvidia,2022\n")
    assert "p.csv:1" in said
    assert "usd_per_chip_hour" in said
    assert "no line of column names" in refused("# only this\n")


def test_what_was_imported_is_known_with_its_age_and_a_newer_row_takes_its_place(tmp_path: Path) -> None:
    known = Imported(tmp_path)
    assert known.quote("aws", "us-east-1", "use1-az4", "g6.xlarge", "spot") is None
    pricebook.add(tmp_path, taken("date," + HEAD + "2026-11-20," + GOOD))
    pricebook.add(tmp_path, taken("date," + HEAD + "2026-11-21," + GOOD.replace("0.33", "0.5")))
    pricebook.add(tmp_path, taken("date," + HEAD + "2026-11-01," + GOOD.replace("0.33", "0.1")))
    quote = Imported(tmp_path).quote("aws", "us-east-1", "use1-az4", "g6.xlarge", "spot")
    assert quote is not None
    assert (quote.price, quote.source) == (price(0.5), "imported")
    days = [seen.price for seen in read(tmp_path / FOLDER)]
    assert days == [price(0.1), price(0.33), price(0.5)]  # the journal has all three, in the order of time


def test_a_price_of_a_region_counts_in_its_zones(tmp_path: Path) -> None:
    pricebook.add(tmp_path, taken(HEAD + "gcp,us-central1,,a2-highgpu-1g,on_demand,3.9,\n"))
    assert Imported(tmp_path).quote("gcp", "us-central1", "us-central1-a", "a2-highgpu-1g", "on-demand") is not None


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dsched", "prices", "import", *argv], capture_output=True, text=True, check=False
    )


def test_the_command_takes_all_or_nothing(tmp_path: Path) -> None:
    file, state = tmp_path / "p.csv", tmp_path / "state"
    file.write_text(HEAD + GOOD + "aws,nowhere,,g6.xlarge,spot,1,\n")
    bad = run(str(file), "--as-of", "2026-11-20", "--state", str(state))
    assert bad.returncode == 2
    assert f"{file}:3: region" in bad.stderr
    assert not state.exists()
    file.write_text(HEAD + GOOD)
    good = run(str(file), "--as-of", "2026-11-20", "--state", str(state))
    assert (good.returncode, good.stderr) == (0, "")
    assert "1 prices" in good.stdout
    assert json.loads((state / "prices" / "book.json").read_text())["rows"][0][3] == "g6.xlarge"
    assert run(str(tmp_path / "none.csv")).returncode == 5


def test_a_book_that_cannot_be_read_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "prices").mkdir()
    (tmp_path / "prices" / "book.json").write_text("{")
    with pytest.raises(BadFile, match="move it away"):
        pricebook.add(tmp_path, taken(HEAD + GOOD))
    assert (tmp_path / "prices" / "book.json").read_text() == "{"
    assert Imported(tmp_path).quote("aws", "us-east-1", "use1-az4", "g6.xlarge", "spot") is None
