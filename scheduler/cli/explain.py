"""`explain`."""

from __future__ import annotations

from typing import Annotated

import typer

from dsched.scheduler.cli.act import JobArgument
from dsched.scheduler.cli.lazy import here
from dsched.scheduler.cli.terminal import Terminal, moment
from dsched.scheduler.cli.trouble import trouble
from dsched.scheduler.core.units import Moment
from dsched.scheduler.view import format as f
from dsched.scheduler.view.column import select
from dsched.scheduler.view.market import plan_columns
from dsched.scheduler.view.plan import LINES, plan_text
from dsched.scheduler.view.safe import show
from dsched.scheduler.wire.api import Plan


def explain(
    ctx: typer.Context,
    job: JobArgument,
    all: Annotated[bool, typer.Option("-a", "--all", help="every decision about it, oldest first")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", help="offers shown")] = LINES,
    whole: Annotated[bool, typer.Option("--whole", help="of a large market: ask again now, about every offer")] = False,
) -> None:
    """Why it runs there, or why it waits: the stored decision."""
    terminal = here(ctx)
    client = terminal.client()
    found = client.job(job)
    plans = client.explain(found["id"], flips=True, whole=whole)
    health = client.health()
    now = moment(health)
    if terminal.json:
        terminal.rows((), plans if all else plans[-1:], now)
        return
    if not plans:
        raise trouble("E404", f"nothing was decided about {found['id']} yet: {found['reason'] or found['state']}")
    for plan in plans if all else plans[-1:]:
        for line in [decided(plan, now), *plan_lines(terminal, plan, now, lines)]:
            terminal.line(line)
    if anew := plans[-1].get("now"):
        for line in ["", "asked again now, as if it were submitted", *plan_lines(terminal, anew, now, lines)]:
            terminal.line(line)
    reason = f": {show(found['reason'])}" if found["reason"] else ""
    terminal.line(f"  now {f.state(found['state'])}{reason}")
    terminal.note(health)


def decided(plan: Plan, now: Moment) -> str:
    return f"decided {f.clock(plan['at'], now.market)} ({f.since(plan['at'], now.market)} ago)"


def plan_lines(terminal: Terminal, plan: Plan, now: Moment, most: int) -> list[str]:
    try:
        columns = select(plan_columns(plan), terminal.names) if terminal.names else ()
    except ValueError as e:
        raise trouble("E100", str(e)) from None
    wide = terminal.output == "wide"
    return plan_text(plan, now, most=most, columns=columns, wide=wide, width=terminal.width, colour=terminal.colour)
