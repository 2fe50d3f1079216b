"""The plan report: every offer is chosen or refused with a reason that people can read."""

from __future__ import annotations

import typing
from decimal import Decimal

import pytest

from dsched.scheduler.core.job import Need
from dsched.scheduler.core.report import Verdict, Why, dollars, need_words, to_wire
from dsched.scheduler.wire import api
from tests.support.question import NOW, ask, hours, job, later, offer, reported

H100 = "p5.48xlarge"
MARKET = (
    offer(f"cheap/{H100}/spot", 18, on_demand=55),
    offer(f"dear/{H100}/on-demand", 55, on_demand=55),
    offer(f"gone/{H100}/spot", 17, free=0),
    offer("small/g6.xlarge/spot", 0.4),
    offer(f"dark/{H100}/spot", None),
)


def test_the_chosen_comes_first_then_the_possible_then_the_refused() -> None:
    report = reported(ask(job(duration=hours(4)), *MARKET))
    assert [(line.pool.zone, line.verdict) for line in report.lines[:2]] == [
        ("cheap", Verdict.CHOSEN),
        ("dear", Verdict.POSSIBLE),
    ]
    assert all(line.verdict is Verdict.REFUSED for line in report.lines[2:])
    assert report.refused == {Why.NO_CAPACITY: 1, Why.WRONG_ACCELERATOR: 1, Why.NO_PRICE: 1}


def test_a_summary_names_the_gang_the_place_the_money_and_the_end() -> None:
    assert reported(ask(job(duration=hours(4)), *MARKET)).summary == (
        "1 x p5.48xlarge (8 x H100) at aws/cheap, spot, $18.00/h; 67% under on-demand; "
        "98% of the paid time useful; done in about 4.1 h for $73.70"
    )


def test_a_job_that_waits_is_told_the_reasons_that_came_closest() -> None:
    report = reported(ask(job(), *MARKET[2:]))
    assert report.summary == "none of 3 offers fits 8 x H100: 1 no-capacity, 1 no-price, 1 wrong-accelerator"
    assert report.blocked is Why.NO_CAPACITY
    assert not report.hopeless


def test_a_spec_that_no_market_can_serve_is_hopeless() -> None:
    report = reported(ask(job(need=Need(accelerators=("B200",), gpus_min=8, gpus_max=8)), *MARKET[:4]))
    assert report.hopeless
    assert report.blocked is Why.WRONG_ACCELERATOR


def test_what_crosses_the_wire_has_the_fields_of_the_contract() -> None:
    wire = to_wire(reported(ask(job(duration=hours(4)), *MARKET)), job="j1", name="llama")
    assert wire.keys() == always_told(api.Plan)
    hints = typing.get_type_hints(api.Line, include_extras=True)
    always = always_told(api.Line)
    for line in wire["lines"]:
        assert always <= line.keys() <= hints.keys()
        for field in ("price", "per_useful_hour", "compute", "redo", "move", "expected"):
            assert line[field] is None or Decimal(line[field]) >= 0
    first = wire["lines"][0]
    assert (wire["chosen"], wire["at"], wire["name"]) == (first["offer"], NOW.market, "llama")
    assert (first["price"], first["verdict"], first["code"], first["nodes"]) == ("18.00", "chosen", "", 1)
    assert Decimal(first["expected"]) == sum(Decimal(first[part]) for part in ("compute", "redo", "move"))


def test_every_line_but_the_chosen_has_a_code_and_a_sentence() -> None:
    wire = to_wire(reported(ask(job(duration=hours(4), deadline=later(5)), *MARKET)))
    assert all(bool(line["code"]) == bool(line["why"]) == (line["verdict"] != "chosen") for line in wire["lines"])


def test_a_stored_decision_has_its_own_id() -> None:
    report = reported(ask(job(), *MARKET))
    assert to_wire(report)["id"] == report.id
    assert to_wire(report, id="d17")["id"] == "d17"


@pytest.mark.parametrize(
    ("need", "words"),
    [
        (Need(accelerators=("H100", "H200"), gpus_min=8, gpus_max=32, fp8=True), "8..32 x H100 or H200, fp8"),
        (Need(gpu_memory_gib=40), "1 x any GPU, 40 GiB each"),
        (Need(accelerators=("H100",), fp8_required=True), "1 x H100, fp8 required"),
        (Need(cpu_only=True), "a machine, no GPU needed"),
    ],
)
def test_a_need_reads_as_people_say_it(need: Need, words: str) -> None:
    assert need_words(need) == words


@pytest.mark.parametrize(
    ("micro", "words"), [(0, "$0.00"), (89_250, "$0.0892"), (1_234_567_890, "$1,234.57"), (100_000, "$0.10")]
)
def test_small_prices_do_not_read_as_nothing(micro: int, words: str) -> None:
    assert dollars(micro) == words


def always_told(contract: type) -> set[str]:
    hints = typing.get_type_hints(contract, include_extras=True)
    return {name for name, hint in hints.items() if typing.get_origin(hint) is not typing.NotRequired}
