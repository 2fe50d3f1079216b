"""How quantities read: money, durations, shares, places and states. Plain functions from values to text.

Units stand in a table's header, not in its cells. What is not known is a dash, never a zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from dsched.scheduler.core.units import Instant
from dsched.scheduler.view.column import Tone
from dsched.scheduler.view.safe import show

UNKNOWN: Final = "—"
TIMES: Final = "\u00d7"
_CENT: Final = Decimal("0.01")
_BLOCKS: Final = "▁▂▃▄▅▆▇"  # no full block: it fuses neighbouring rows into one mass

# State -> glyph and tone. The word always stands beside the glyph, so neither colour nor font is needed to read it.
STATES: Final[dict[str, tuple[str, Tone]]] = {
    "queued": ("○", ""),
    "held": ("◇", "warn"),
    "starting": ("◐", ""),
    "running": ("●", "good"),
    "moving": ("⇄", "warn"),
    "notice": ("▲", "warn"),
    "draining": ("◆", "warn"),
    "paused": ("‖", "warn"),
    "succeeded": ("✔", "good"),
    "failed": ("✖", "bad"),
    "cancelled": ("⊘", "dim"),
    "requested": ("○", ""),
    "booting": ("◐", ""),
    "ready": ("●", "good"),
    "gone": ("✖", "dim"),
    "ok": ("✔", "good"),
    "warn": ("▲", "warn"),
    "fail": ("✖", "bad"),
    "spent": ("✖", "bad"),
}


def state(word: str, extra: str = "") -> str:
    """A glyph and the word: "● running". An unknown word stands alone."""
    glyph, _ = STATES.get(word, ("·", ""))
    return f"{glyph} {show(word)} {extra}".rstrip()


def tone(word: str) -> Tone:
    return STATES.get(word, ("", ""))[1]


def money(amount: str | Decimal | None) -> str:
    """Dollars with two decimals and commas, rounded half up; below half a cent "<0.01": spend never reads as none."""
    if amount is None:
        return UNKNOWN
    exact = Decimal(amount)
    cents = exact.quantize(_CENT, ROUND_HALF_UP)
    if exact and not cents:
        return "<0.01" if exact > 0 else "-0.01"
    return f"{cents:,}"


def dollars(amount: str | Decimal | None) -> str:
    """The same inside a sentence: "$1,064.10"."""
    text = money(amount)
    if amount is None:
        return text
    if text[0] in "<-":
        return f"{text[0]}${text[1:]}"
    return f"${text}"


def saving(saved: str, baseline: str) -> str:
    """What was saved and its share of the baseline: "1,064.10 67%"."""
    share = saved_share(saved, baseline)
    return money(saved) if share is None else f"{money(saved)} {percent(share):>4}"


def saved_share(saved: str, baseline: str) -> float | None:
    whole = Decimal(baseline)
    return float(Decimal(saved) / whole) if whole else None


def percent(share: float | None) -> str:
    """0.67 as "67%"; a small share keeps one digit, so that it does not read as none: "0.4%"."""
    if share is None:
        return UNKNOWN
    if 0 < abs(share) < 0.0095:
        return f"{share * 100:.1f}%" if abs(share) >= 0.0005 else "<0.1%"
    return f"{share * 100:.0f}%"


def duration(seconds: float | None) -> str:
    """Two units at most: "18s", "2m05s", "12m", "4h05m", "3d04h"; before zero with a minus."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0:
        text = duration(-seconds)
        return text if text == "0s" else f"-{text}"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 3_600:
        return f"{whole // 60}m"
    if whole < 172_800:
        return f"{whole // 3_600}h{whole % 3_600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3_600:02d}h"


def age(seconds: float | None) -> str:
    """One unit: "5s", "2m", "4h", "1d"."""
    if seconds is None:
        return UNKNOWN
    whole = max(0, int(seconds))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if whole >= size:
            return f"{whole // size}{unit}"
    return f"{whole}s"


def since(then: int | None, now: Instant) -> str:
    """The age of an instant on the same clock as `now`."""
    return UNKNOWN if then is None else age((now - then) / 1000)


def clock(at: int | None, now: Instant, zone: tzinfo | None = None) -> str:
    """A time of day, with its date where that is not today's: "03:12", "Nov 23 03:12". Local time unless told."""
    if at is None:
        return UNKNOWN
    when, today = (datetime.fromtimestamp(ms / 1000, zone).astimezone(zone) for ms in (at, now))
    if when.date() == today.date():
        return when.strftime("%H:%M")
    return when.strftime("%b %d %H:%M" if when.year == today.year else "%Y-%m-%d %H:%M")


def second(at: int | None, zone: tzinfo | None = None) -> str:
    """A time of day to the second, for logs and events."""
    return UNKNOWN if at is None else datetime.fromtimestamp(at / 1000, zone).astimezone(zone).strftime("%H:%M:%S")


def number(value: float | None, digits: int = 0) -> str:
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


def short(value: float | None) -> str:
    """A count to three digits: "950", "61.2k", "1.50M"."""
    if value is None:
        return UNKNOWN
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def place(pool: str) -> str:
    """A pool's id as a person says it: "aws/us-east-2b p5.48xlarge spot"."""
    if not pool:
        return UNKNOWN
    parts = pool.split("/")
    return show(" ".join(["/".join(parts[:2]), *parts[2:]]))


def gpus(count: int, accelerator: str) -> str:
    """Eight of them as "8xH100" (with a real multiplication sign); a job without GPUs is "cpu"."""
    if not count:
        return "cpu"
    return f"{count}{TIMES}{show(accelerator)}" if accelerator else str(count)


def bar(share: float | None, width: int) -> str:
    """Progress in `width` cells. Fill and track are different glyphs, so it reads without colour."""
    filled = round(min(1.0, max(0.0, share or 0.0)) * width)
    return "━" * filled + "─" * (width - filled)


def sparkline(values: Sequence[float], low: float, high: float) -> str:
    """A line of blocks on a stated scale, so that lines side by side compare."""
    span = high - low
    top = len(_BLOCKS) - 1
    return "".join(_BLOCKS[min(top, max(0, round((v - low) / span * top)))] if span > 0 else _BLOCKS[0] for v in values)
