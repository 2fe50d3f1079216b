"""A simulation as one picture (SVG): what each job cost against how much of its time it took, and where it ran when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from dsched.scheduler.core.units import HOUR
from dsched.scheduler.sim.tally import Row, Tally, dollars

WIDTH: Final = 1180
LANES: Final = 44  # jobs in the Gantt: what fits a page; the first ones by submission
LANE: Final = 15  # pixels
LEFT, RIGHT, TOP = 150, 96, 108  # around the charts
CHART: Final = 250  # height of the cost chart
COST_MAX: Final = 1.25  # of on-demand; dearer jobs are drawn at the edge
COLOURS: Final = {"spot": "#0f9d8a", "reserved": "#5b6ee1", "on-demand": "#e8a33d"}
MET, MISSED, NONE, INK, PALE = "#0f9d8a", "#d6455d", "#8a94a6", "#1f2733", "#dfe4ec"


def draw(tally: Tally) -> str:
    """The whole picture."""
    rows = sorted(tally.rows, key=lambda row: (row.submitted, row.id))
    shown = rows[:LANES]
    height = TOP + CHART + 96 + LANE * len(shown) + 46
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="Inter, Helvetica, Arial, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        *_head(tally),
        *_costs(tally, rows),
        *_gantt(tally, shown, TOP + CHART + 96),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _text(
    x: float, y: float, words: str, *, size: int = 12, colour: str = INK, anchor: str = "start", bold: str = ""
) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"{weight}>'
        f"{escape(words)}</text>"
    )


def _head(tally: Tally) -> Iterator[str]:
    saved = f", {1 - tally.paid / tally.on_demand:.0%} under on-demand" if tally.on_demand else ""
    title = f"{len(tally.rows)} jobs in {tally.days:.0f} days: ${float(dollars(tally.paid)):,.0f}{saved}"
    yield _text(LEFT, 34, title, size=20, bold="yes")
    deadlines = f"{tally.met} deadlines met, {tally.missed} missed"
    counts = f"{tally.launches} launches, {tally.interruptions} interruptions, {tally.crashes} deaths of the daemon"
    yield _text(LEFT, 55, f"{deadlines}; {counts}", colour=NONE)
    ran = f"policy {tally.policy}, {tally.market}, faults {tally.faults}, seed {tally.seed}"
    yield _text(LEFT, 73, f"{ran}, decisions {tally.digest[:12]}", colour=NONE)


def _costs(tally: Tally, rows: Sequence[Row]) -> Iterator[str]:
    """x: how much of the time up to its deadline a job took; y: what it cost, of on-demand."""
    width, bottom = WIDTH - LEFT - RIGHT, TOP + CHART

    def x(share: float) -> float:
        return LEFT + width * min(max(share, 0.0), 1.15) / 1.15

    def y(share: float) -> float:
        return bottom - CHART * min(share, COST_MAX) / COST_MAX

    yield _text(LEFT, TOP - 10, "Cost against deadline, a dot per job", bold="yes")
    for step in (0.0, 0.25, 0.5, 0.75, 1.0):
        yield f'<line x1="{LEFT}" x2="{LEFT + width}" y1="{y(step):.1f}" y2="{y(step):.1f}" stroke="{PALE}"/>'
        yield _text(LEFT - 8, y(step) + 4, f"{step:.0%}", colour=NONE, anchor="end")
        yield _text(x(step), bottom + 18, f"{step:.0%}", colour=NONE, anchor="middle")
    yield f'<line x1="{x(1):.1f}" x2="{x(1):.1f}" y1="{TOP}" y2="{bottom}" stroke="{MISSED}" stroke-dasharray="4 3"/>'
    yield _text(x(1) + 6, TOP + 12, "deadline", colour=MISSED)
    yield _text(LEFT - 48, TOP - 10, "of on-demand", colour=NONE, anchor="end", size=11)
    yield _text(LEFT + width, bottom + 34, "time used, of what the deadline left", colour=NONE, anchor="end", size=11)
    for row in rows:
        if row.deadline is None or row.ended is None or row.share is None:
            continue
        used = (row.ended - row.submitted) / max(1, row.deadline - row.submitted)
        yield (
            f'<circle cx="{x(used):.1f}" cy="{y(row.share):.1f}" r="{2.4 + row.gpus / 16:.1f}" '
            f'fill="{MET if row.met else MISSED}" fill-opacity="0.45"><title>{escape(_tip(row))}</title></circle>'
        )


def _gantt(tally: Tally, rows: Sequence[Row], top: int) -> Iterator[str]:
    width = WIDTH - LEFT - RIGHT
    last = max((row.ended or row.submitted for row in rows), default=tally.begun + HOUR)
    span = max(1, last - tally.begun)

    def x(instant: int) -> float:
        return LEFT + width * (min(instant, last) - tally.begun) / span

    more = f" (the first {len(rows)} of {len(tally.rows)})" if len(rows) < len(tally.rows) else ""
    yield _text(LEFT, top - 34, f"Placements{more}", bold="yes")
    yield from _legend(top - 34)
    bottom = top + LANE * len(rows)
    days = span / HOUR / 24
    every = next((n for n in (1 / 4, 1 / 2, 1, 2, 5, 10, 30, 90) if days / n <= 12), 365)
    for number in range(int(days / every) + 1):
        at = tally.begun + round(number * every * 24 * HOUR)
        yield f'<line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{top - 8}" y2="{bottom}" stroke="{PALE}"/>'
        yield _text(x(at), top - 12, f"day {number * every:g}", colour=NONE, anchor="middle", size=11)
    for lane, row in enumerate(rows):
        yield from _lane(row, top + lane * LANE, x, last)


def _legend(y: int) -> Iterator[str]:
    at = WIDTH - RIGHT - 420
    for name, colour in COLOURS.items():
        yield f'<rect x="{at}" y="{y - 9}" width="14" height="9" rx="2" fill="{colour}"/>'
        yield _text(at + 19, y, name, colour=NONE, size=11)
        at += 34 + 7 * len(name)
    yield f'<line x1="{at}" x2="{at + 14}" y1="{y - 4}" y2="{y - 4}" stroke="{NONE}"/>'
    yield _text(at + 19, y, "waits", colour=NONE, size=11)
    yield f'<line x1="{at + 68}" x2="{at + 68}" y1="{y - 11}" y2="{y + 1}" stroke="{MISSED}" stroke-width="2"/>'
    yield _text(at + 74, y, "deadline", colour=NONE, size=11)


def _lane(row: Row, y: float, x: object, last: int) -> Iterator[str]:
    assert callable(x), "the scale of the chart"
    middle = y + LANE / 2
    yield _text(LEFT - 8, middle + 4, f"{row.name[:16]}  {row.gpus} GPUs", size=10, colour=NONE, anchor="end")
    until = row.ended or last
    yield (
        f'<line x1="{x(row.submitted):.1f}" x2="{x(until):.1f}" y1="{middle:.1f}" y2="{middle:.1f}" '
        f'stroke="{NONE}" stroke-width="1"/>'
    )
    for stay in row.stays:
        begun, ended = stay.running or stay.begun, stay.ended or last
        market = stay.pool.rpartition("/")[2]
        yield (
            f'<rect x="{x(begun):.1f}" y="{y + 2:.1f}" width="{max(1.0, x(ended) - x(begun)):.1f}" height="{LANE - 4}" '
            f'rx="2" fill="{COLOURS.get(market, NONE)}"><title>{escape(f"{stay.nodes} x {stay.pool}: {stay.outcome}")}'
            "</title></rect>"
        )
    if row.deadline is not None and row.deadline <= last:
        colour = INK if row.met else MISSED
        yield (
            f'<line x1="{x(row.deadline):.1f}" x2="{x(row.deadline):.1f}" y1="{y + 1:.1f}" y2="{y + LANE - 1:.1f}" '
            f'stroke="{colour}" stroke-width="2"/>'
        )
    price = f"${float(dollars(row.spent)):,.0f}"
    share = f"  {row.share:.0%}" if row.share is not None else ""
    yield _text(WIDTH - RIGHT + 8, middle + 4, price + share, size=10, colour=NONE)


def _tip(row: Row) -> str:
    share = f" ({row.share:.0%} of on-demand)" if row.share is not None else ""
    moves = f"{row.moves} moves, {row.interruptions} interruptions"
    return f"{row.id} {row.name}: ${float(dollars(row.spent)):,.2f}{share}, {moves}"
