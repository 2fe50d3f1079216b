"""`ps`."""

from __future__ import annotations

from typing import Annotated

import typer

from dsched.scheduler.cli.lazy import here
from dsched.scheduler.cli.terminal import moment
from dsched.scheduler.cli.trouble import trouble
from dsched.scheduler.view.column import order, select
from dsched.scheduler.view.jobs import JOBS, UNFINISHED
from dsched.scheduler.view.safe import show

_HINTS = 3  # waiting jobs explained below the table


def ps(
    ctx: typer.Context,
    all: Annotated[bool, typer.Option("-a", "--all", help="every job there ever was")] = False,
    state: Annotated[str, typer.Option(help="only these states: running,paused")] = "",
    user: Annotated[str, typer.Option(help="only this user's")] = "",
    limit: Annotated[int, typer.Option("-l", "--limit", help="at most so many, the newest")] = 0,
    sort: Annotated[str, typer.Option(metavar="COLUMN", help="sort by a column; -r turns it round")] = "",
    reverse: Annotated[bool, typer.Option("-r", "--reverse")] = False,
) -> None:
    """Jobs with their cost, saving, progress and end.

    dsched ps -a --sort spent -r        the dearest first
    """
    terminal = here(ctx)
    client = terminal.client()
    rows = client.jobs(all=all, state=state, user=user, limit=limit)
    if sort:
        try:
            rows = order(rows, select(JOBS, [sort])[0], reverse=reverse)
        except ValueError as e:
            raise trouble("E100", str(e)) from None
    elif reverse:
        rows = rows[::-1]
    health = client.health()
    terminal.rows(JOBS, rows, moment(health))
    if terminal.output not in ("table", "wide"):
        return
    if not rows:
        terminal.say("no jobs; dsched submit SPEC starts one, dsched demo shows one")
    waiting = [job for job in rows if job["state"] in ("queued", "held") and job["reason"]]
    for job in waiting[:_HINTS]:
        terminal.say(f"{show(job['id'])} waits: {show(job['reason'])}     dsched explain {show(job['id'])}")
    if health["market_note"] and any(job["state"] in UNFINISHED for job in rows):
        terminal.say(show(health["market_note"]), "dim")
