"""What reserved capacity would have saved, and what a spend commitment covers: counted by hand, then by the code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsched.scheduler.core.commitment import (
    Advice,
    Contract,
    Paid,
    Running,
    Usage,
    advice,
    marginal,
    used,
    waterfall,
)
from dsched.scheduler.core.units import HOUR, Instant, MicroUsdPerHour, Millis, price, usd
from tests.support.question import offer

H100 = "p5.48xlarge"
WEEK = Millis(100 * HOUR)
NOW = Instant(1_000 * HOUR)
MARKET = {o.pool.id: o for o in (offer(f"a/{H100}/reserved", 30), offer(f"b/{H100}/reserved", 25))}


def ran(dollars: float, begin: float, end: float, shape: str = H100) -> Paid:
    """Hours before now."""
    return Paid(
        "aws", "us-east-1", shape, price(dollars), Instant(NOW - round(begin * HOUR)), Instant(NOW - round(end * HOUR))
    )


def advised(*paid: Paid) -> Advice | None:
    found = advice(paid, MARKET, NOW, WEEK)
    return found[0] if found else None


def test_a_machine_that_always_ran_at_a_higher_price_should_have_been_reserved() -> None:
    got = advised(ran(40, 100, 0))
    assert got is not None
    assert (got.machines, got.reserved, got.paid) == (1, price(25), price(40))
    assert got.saving == usd(1_500)
    assert (got.used, got.breaks_even) == (1.0, pytest.approx(25 / 40))


def test_idle_nights_speak_against_it() -> None:
    assert advised(ran(40, 100, 50)) is None  # $20 an hour on average
    assert advised(ran(40, 100, 25)) is not None  # $30


def test_cheap_spot_speaks_against_it() -> None:
    assert advised(ran(20, 100, 0)) is None


def test_each_machine_is_judged_by_what_it_would_displace() -> None:
    got = advised(ran(40, 100, 0), ran(50, 100, 0), ran(40, 100, 90))
    assert got is not None
    assert (got.machines, got.paid) == (2, price(45))


def test_what_ran_before_the_window_and_other_shapes_do_not_count() -> None:
    assert advised(ran(90, 300, 100), ran(90, 100, 0, "p4d.24xlarge")) is None


def test_a_saving_within_the_margin_is_none() -> None:
    assert advised(ran(26, 100, 0)) is None


# -- spend commitments


def use(name: str, ordinary: float, covered: float, machines: float = 1.0) -> Usage:
    return Usage(name, price(ordinary), price(covered), machines)


def test_the_largest_saving_is_covered_first() -> None:
    """A $10 commitment, $10 of 50 % and $9 of 10 % off: the first is covered whole, the second paid in full."""
    bill = waterfall([use("little", 10, 9), use("much", 20, 10)], price(10))
    assert (bill.committed, bill.ordinary, bill.unused) == (price(10), price(10), 0)


def test_what_is_covered_in_part_is_paid_in_part() -> None:
    bill = waterfall([use("much", 20, 10)], price(5))
    assert (bill.ordinary, bill.unused, bill.total) == (price(10), 0, price(15))


def test_what_is_not_used_is_lost() -> None:
    bill = waterfall([use("much", 20, 10)], price(25))
    assert (bill.total, bill.unused) == (price(25), price(15))


def test_the_next_machine_is_free_until_the_commitment_is_used_up_and_then_steps() -> None:
    one = use("h100", 20, 10)
    costs = [marginal([one] * already, price(25), one) for already in range(4)]
    assert costs == [0, 0, price(10), price(20)]


USES = st.lists(
    st.builds(use, st.sampled_from("abc"), st.integers(10, 20), st.integers(1, 10), st.integers(1, 3)), max_size=5
)


@given(USES, st.integers(0, 100))
def test_a_bill_is_never_below_the_commitment_nor_is_covering_dearer(usage: list[Usage], dollars: int) -> None:
    bill = waterfall(usage, MicroUsdPerHour(price(dollars)))
    plain = sum(u.ordinary * u.machines for u in usage)
    assert bill.total >= price(dollars)
    assert bill.ordinary <= plain + 1
    assert 0 <= bill.unused <= price(dollars)
    assert bill.unused == 0 or bill.ordinary == pytest.approx(0, abs=1)


def running(shape: str, *, gpus: int = 8, listed: float = 100.0, ours: float = 60.0, region: str = "east") -> Running:
    return Running("aws", region, shape, "H100", gpus, price(listed), price(ours))


def promised(**fields: Any) -> Contract:
    return Contract(provider="aws", kind="k", id="i", **fields)


def test_a_contract_of_machines_is_used_by_those_that_it_covers() -> None:
    machines = [running("p5.48xlarge"), running("p5.48xlarge", region="west"), running("g6.xlarge", gpus=1)]
    assert used(promised(covers="p5.48xlarge", count=4), machines) == 0.5
    assert used(promised(covers="p5", region="east", count=4), machines) == 0.25
    assert used(promised(covers="gpu:H100", count=34), machines) == 0.5
    assert used(promised(covers="gpu:A100-40", count=1), machines) == 0.0
    assert used(replace(promised(covers="p5.48xlarge", count=1), provider="gcp"), machines) == 0.0


def test_a_contract_of_spend_is_used_at_its_own_rates() -> None:
    assert used(promised(per_hour=price(240)), [running("p5.48xlarge"), running("p5.48xlarge")]) == 0.5
    assert used(promised(per_hour=price(60)), [running("p5.48xlarge")] * 3) == 1.0
    assert used(promised(covers="g6", per_hour=price(60)), [running("p5.48xlarge")]) == 0.0
    assert used(promised(), [running("p5.48xlarge")]) == 0.0
