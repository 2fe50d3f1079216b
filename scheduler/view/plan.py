"""A plan as text: what the job needs, the offers with their cost and their reason, the outcome, and the plan's id."""

from __future__ import annotations

from collections.abc import Sequence

from dsched.scheduler.core.units import Moment
from dsched.scheduler.view.column import Column, standard
from dsched.scheduler.view.deadline import deadline_text
from dsched.scheduler.view.market import plan_columns
from dsched.scheduler.view.safe import show
from dsched.scheduler.view.table import paint, table
from dsched.scheduler.wire.api import Line, Plan

LINES: int = 10  # offers shown unless told otherwise


def chosen_lines(plan: Plan, most: int) -> list[Line]:
    """The chosen one and the next best, `most` in all; refused ones only where that leaves room."""
    return plan["lines"][:most]


def plan_text(
    plan: Plan,
    now: Moment,
    *,
    most: int = LINES,
    columns: Sequence[Column[Line]] = (),
    wide: bool = False,
    width: int | None,
    colour: bool,
) -> list[str]:
    lines = chosen_lines(plan, most)
    shown = columns or standard(plan_columns(plan), wide=wide)
    text = [f"{paint(show(plan['name']), 'strong', colour=colour)}  {show(plan['need'])}", ""]
    if lines:
        text += [*table(shown, lines, now, width=width, colour=colour), ""]
    mark = paint("▶", "good", colour=colour) if plan["chosen"] else paint("✗", "bad", colour=colour)
    text.append(f"{mark} {show(plan['summary'], 500)}")
    if together := plan.get("together"):
        others = f"{together['jobs'] - 1} other{'s' if together['jobs'] > 2 else ''}"
        text.append(
            f"  chosen together with {others}: that costs {together['saves']:.0%} less than deciding one by one"
        )
    if told := plan.get("deadline"):
        text += deadline_text(told, now)
    text += _rest(plan, len(lines))
    return text


def _rest(plan: Plan, shown: int) -> list[str]:
    """What is not in the table, by reason."""
    refused = plan["refused"]
    text = []
    if hidden := len(plan["lines"]) - shown:
        text.append(f"  {hidden} more: -n {len(plan['lines'])} shows them")
    if kept := plan.get("kept"):
        others = kept["possible"] - sum(line["verdict"] != "refused" for line in plan["lines"])
        text.append(
            f"  {others:,} of {kept['offers']:,} offers would do, too, and were not kept: --whole asks again now"
        )
    if refused:
        by_count = sorted(refused.items(), key=lambda item: (-item[1], item[0]))
        text.append("  refused: " + ", ".join(f"{count} {show(code)}" for code, count in by_count))
    text.append(f"  plan {show(plan['id'])}, policy {show(plan['policy'])}")
    return text
