"""How people write durations, sizes, money, ranges and times in a spec. Every refusal says what would be right."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, tzinfo
from decimal import Decimal
from typing import Final

from dsched.scheduler.core.units import Instant, Millis

DURATION_PATTERN: Final = r"^ *([0-9]+(\.[0-9]+)? *(ms|s|m|h|d|w) *)+$"
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|w)")
_UNITS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_YEAR: Final = 365 * _UNITS["d"]  # no duration is longer: a typo, not a plan

_TYPING: Final = 5 * _UNITS["m"]  # what is promised now is still promised when somebody has written it down

MEMORY_PATTERN: Final = r"^ *[0-9]+ *(GB|GiB|G) *$"
_MONEY: Final = re.compile(r"\$?\s*([0-9]{1,12}(?:\.[0-9]{1,6})?)(?:\s*/\s*h)?")
_RANGE: Final = re.compile(r"([0-9]{1,6})(?:\s*\.\.\s*([0-9]{1,6}))?")
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TIME: Final = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")


def duration(text: str) -> Millis:
    """ "90s", "12h", "1h30m", "1.5d". Raises ValueError."""
    if re.fullmatch(r"[0-9.]+", text):
        raise ValueError(f"{text!r} has no unit; write {text}s, {text}m or {text}h")
    if not re.match(DURATION_PATTERN, text):
        raise ValueError(f"not a duration: {text!r}; write for example 30s, 12h or 1h30m")
    total = sum(Decimal(amount) * _UNITS[unit] for amount, unit in _PART.findall(text))
    if not 0 < total <= _YEAR:
        raise ValueError(f"{text!r} is not between 1 ms and a year")
    return Millis(int(total))


def written(at: Instant) -> str:
    """An instant as a spec's `finish_by`: whole minutes, and never before it."""
    return datetime.fromtimestamp(-(-(at + _TYPING) // _UNITS["m"]) * 60, UTC).strftime("%Y-%m-%dT%H:%MZ")


def within(at: Instant, now: Instant) -> str:
    """An instant as a spec's `within`: "13h12m", and never before it."""
    hours, minutes = divmod(-(-(at + _TYPING - now) // _UNITS["m"]), 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m"


def memory_gib(text: str) -> int:
    """ "80GB": what vendors call an 80 GB card counts as 80, so GB and GiB mean the same here. Raises ValueError."""
    found = re.fullmatch(r"\s*([0-9]{1,5})\s*(?:GB|GiB|G)\s*", text)
    if not found:
        raise ValueError(f"not a size of GPU memory: {text!r}; write for example 80GB")
    return int(found[1])


AMOUNT_PATTERN: Final = r"^ *[0-9]+(\.[0-9]+)? *[kKMBGT]? *$"
BATCH_PATTERN: Final = r"^ *[0-9]+(\.[0-9]+)? *[kKMBGT]? *(tokens|sequences)? *$"
_AMOUNT: Final = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([kKMBGT]?)\s*")
_BATCH: Final = re.compile(r"(.*?)\s*(tokens|sequences)?\s*", re.DOTALL)
_SCALES: Final = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
_AMOUNT_MAX: Final = 1e17  # no count of parameters or tokens is larger: a typo


def amount(text: str) -> float:
    """ "671B", "14.8T", "4096": a count. Raises ValueError."""
    found = _AMOUNT.fullmatch(text)
    if not found:
        raise ValueError(f"not a number: {text!r}; write for example 671B, 37B or 14.8T")
    total = float(found[1]) * _SCALES[found[2]]
    if not 0 < total <= _AMOUNT_MAX:
        raise ValueError(f"{text!r} is not between 1 and {_AMOUNT_MAX:.0e}")
    return total


def batch(text: str) -> tuple[float, str]:
    """ "4M", "4M tokens" or "1024 sequences": a count and its unit. Raises ValueError."""
    found = _BATCH.fullmatch(text)
    assert found is not None, "the pattern takes any text"
    return amount(found[1]), found[2] or "tokens"


def money(value: str | int | float) -> str:
    """Dollars as a plain decimal string: 12.5, "$12.50" and "12.50/h" are all read. Raises ValueError."""
    found = _MONEY.fullmatch(str(value).strip().replace(",", ""))
    if not found or isinstance(value, bool):
        raise ValueError(f"not an amount of dollars: {value!r}; write for example 12.50")
    return found[1]


def count_range(text: str) -> tuple[int, int]:
    """ "8" or "8..32". Raises ValueError."""
    found = _RANGE.fullmatch(text.strip())
    if not found:
        raise ValueError(f"not a number of GPUs: {text!r}; write for example 8 or 8..32")
    low = int(found[1])
    high = int(found[2] or low)
    if low < 1 or high < low:
        raise ValueError(f"not a range from 1 up: {text!r}")
    return low, high


def deadline(text: str, now: Instant, zone: tzinfo | None = None) -> Instant:
    """ "2026-12-01T18:00", "18:00", "tomorrow 18:00" or "friday 18:00" as an instant; local time unless told.

    Raises ValueError, also for an instant that is past.
    """
    today = datetime.fromtimestamp(now / 1000, zone)
    when = _when(text, today)
    try:
        at = Instant(int(when.timestamp() * 1000))
    except (OverflowError, ValueError, OSError):
        raise ValueError(f"no such time: {text!r}") from None
    if at <= now:
        raise ValueError(f"{text!r} is past: it is {today:%Y-%m-%d %H:%M} now")
    return at


def check_deadline(text: str) -> str:
    """The text, if it could be a deadline at some time. Raises ValueError."""
    _when(text, datetime(2024, 1, 1))  # noqa: DTZ001 - any day does; only the form counts
    return text


def _when(text: str, today: datetime) -> datetime:
    """Naive times are left naive: their timestamp then follows the local rules of that day, summer time included."""
    word, _, clock = text.strip().lower().rpartition(" ")
    if (found := _TIME.fullmatch(clock)) and word in ("", "today", "tomorrow", *_DAYS):
        return _relative(word, time(int(found[1]), int(found[2])), today)
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"not a time: {text!r}; write for example 2026-12-01T18:00 or tomorrow 18:00") from None
    return when if when.tzinfo else when.replace(tzinfo=today.tzinfo)


def _relative(word: str, at: time, today: datetime) -> datetime:
    def on(days: int) -> datetime:
        return datetime.combine(today.date() + timedelta(days=days), at, tzinfo=today.tzinfo)

    if word == "tomorrow":
        return on(1)
    days = (_DAYS.index(word) - today.weekday()) % 7 if word in _DAYS else 0
    if word == "today" or on(days) > today:
        return on(days)
    return on(days + 7 if word in _DAYS else 1)
