"""How people write quantities."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dsched.scheduler.core.units import Instant
from dsched.scheduler.wire import quantity as q

FRIDAY = datetime(2026, 11, 20, 14, tzinfo=UTC)


def instant(when: datetime) -> Instant:
    return Instant(int(when.timestamp() * 1000))


@pytest.mark.parametrize(
    ("text", "ms"), [("90s", 90_000), ("1h30m", 5_400_000), ("1.5d", 129_600_000), (" 2 h ", 7_200_000), ("250ms", 250)]
)
def test_durations_carry_their_unit(text: str, ms: int) -> None:
    assert q.duration(text) == ms


@pytest.mark.parametrize("text", ["", "h", "5", "5 parsecs", "-5s", "0s", "400d", "1h 30", "1e3s", "\u0665s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|between"):
        q.duration(text)


@pytest.mark.parametrize(
    ("text", "day", "hour"),
    [
        ("18:00", 20, 18), ("13:00", 21, 13), ("today 18:00", 20, 18), ("tomorrow 18:00", 21, 18),
        ("friday 18:00", 20, 18), ("Friday 9:30", 27, 9), ("monday 08:00", 23, 8), ("2026-11-25T06:00", 25, 6),
        ("2026-11-25 06:00", 25, 6), ("2026-11-25T06:00+02:00", 25, 4),
    ],
)  # fmt: skip
def test_a_deadline_is_the_next_such_time(text: str, day: int, hour: int) -> None:
    at = datetime.fromtimestamp(q.deadline(text, instant(FRIDAY), UTC) / 1000, UTC)
    assert (at.day, at.hour) == (day, hour)


@pytest.mark.parametrize("text", ["today 13:00", "2026-11-20T13:59", "0001-01-01", "9999-99-99", "noon", "25:00", ""])
def test_a_deadline_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"past|not a time|no such time"):
        q.deadline(text, instant(FRIDAY), UTC)


@pytest.mark.parametrize(("text", "found"), [("8", (8, 8)), ("8..32", (8, 32)), ("8 .. 32", (8, 32))])
def test_ranges(text: str, found: tuple[int, int]) -> None:
    assert q.count_range(text) == found


@pytest.mark.parametrize(("given", "found"), [(12.5, "12.5"), ("$12.50", "12.50"), ("1,200/h", "1200"), (3, "3")])
def test_money_is_read_as_people_write_it(given: object, found: str) -> None:
    assert q.money(given) == found  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["nan", "inf", "-1", "1e9", "", "12.50 EUR", True])
def test_what_is_no_money_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        q.money(given)  # type: ignore[arg-type]


def test_gpu_memory_is_counted_as_the_vendors_do() -> None:
    assert q.memory_gib("80GB") == q.memory_gib("80 GiB") == 80
    with pytest.raises(ValueError, match="80GB"):
        q.memory_gib("80")


def test_an_instant_is_written_so_that_it_can_be_a_deadline_minutes_later() -> None:
    at = instant(FRIDAY.replace(hour=18, second=1))
    text = q.written(at)
    assert text == "2026-11-20T18:06Z"
    assert q.deadline(text, instant(FRIDAY)) > at
    assert q.within(at, instant(FRIDAY)) == "4h06m"
    assert instant(FRIDAY) + q.duration(q.within(at, instant(FRIDAY))) > at
    assert q.within(at, at) == "5m"
