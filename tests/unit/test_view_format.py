"""How quantities read."""

from __future__ import annotations

from datetime import UTC

import pytest

from dsched.scheduler.core.units import Instant
from dsched.scheduler.view import format as f

DAY = 86_400_000


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("1064.1", "1,064.10"), ("17.92", "17.92"), ("0", "0.00"), ("0.004", "<0.01"), ("0.005", "0.01"),
        ("-3.5", "-3.50"), ("999999999.999999", "1,000,000,000.00"), (None, "—"),
    ],
)  # fmt: skip
def test_money_has_two_decimals_and_never_reads_as_none(amount: str | None, text: str) -> None:
    assert f.money(amount) == text


def test_money_in_a_sentence_carries_its_sign() -> None:
    assert [f.dollars(x) for x in ("12.5", "0.001", "-2", None)] == ["$12.50", "<$0.01", "-$2.00", "—"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (18, "18s"), (59.6, "1m00s"), (125, "2m05s"), (600, "10m"), (3_599, "59m"), (14_700, "4h05m"),
        (172_799, "47h59m"), (273_600, "3d04h"), (-6_600, "-1h50m"), (-0.2, "0s"), (None, "—"),
    ],
)  # fmt: skip
def test_a_duration_has_at_most_two_units(seconds: float | None, text: str) -> None:
    assert f.duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(5.9, "5s"), (120, "2m"), (90_000, "1d"), (-3, "0s"), (None, "—")])
def test_an_age_has_one_unit(seconds: float | None, text: str) -> None:
    assert f.age(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.669, "67%"), (0, "0%"), (0.004, "0.4%"), (0.0001, "<0.1%"), (1.2, "120%"), (None, "—")]
)
def test_a_small_share_does_not_read_as_none(share: float | None, text: str) -> None:
    assert f.percent(share) == text


def test_a_time_of_another_day_carries_its_date() -> None:
    noon = Instant(20_000 * DAY + DAY // 2)
    assert f.clock(noon + 3_600_000, noon, UTC) == "13:00"
    assert f.clock(noon + DAY, noon, UTC) == "Oct 05 12:00"
    assert f.clock(noon + 365 * DAY, noon, UTC) == "2025-10-04 12:00"


def test_a_state_is_a_glyph_and_a_word() -> None:
    assert f.state("running") == "● running"
    assert f.state("notice", "18s") == "▲ notice 18s"
    assert f.state("brand-new") == "· brand-new"


def test_a_pool_reads_as_a_place_a_shape_and_a_market() -> None:
    assert f.place("aws/us-east-2b/p5.48xlarge/spot") == "aws/us-east-2b p5.48xlarge spot"
    assert f.place("") == "—"


def test_a_bar_reads_without_colour() -> None:
    assert f.bar(0.5, 4) == "━━──"
    assert f.bar(7.0, 4) == "━━━━"
    assert f.bar(None, 4) == "────"


def test_sparklines_on_one_scale_compare() -> None:
    assert f.sparkline([0, 5, 10], 0, 10) == "▁▄▇"
    assert f.sparkline([5, 5], 0, 10) == "▄▄"
    assert f.sparkline([3], 3, 3) == "▁"
