"""`ps`."""

from __future__ import annotations

import json
from typing import Annotated, Final

import typer

from dsched.scheduler.api.client import Client
from dsched.scheduler.cli.lazy import here
from dsched.scheduler.cli.terminal import Terminal, moment
from dsched.scheduler.cli.trouble import trouble
from dsched.scheduler.view.column import order, select
from dsched.scheduler.view.jobs import JOBS, UNFINISHED
from dsched.scheduler.view.safe import show
from dsched.scheduler.wire.api import JOBS_MAX, Job

ROWS: Final = 100  # of a table, unless told otherwise: what a person reads, and what is there at once
_HINTS: Final = 3  # waiting jobs explained below the table


def ps(
    ctx: typer.Context,
    all: Annotated[bool, typer.Option("-a", "--all", help="every job there ever was")] = False,
    state: Annotated[str, typer.Option(help="only these states: running,paused")] = "",
    user: Annotated[str, typer.Option(help="only this user's")] = "",
    limit: Annotated[
        int,
        typer.Option(
            "-l", "--limit", help=f"at most so many; 0: all [{ROWS} in a table, else all]", show_default=False
        ),
    ] = -1,
    sort: Annotated[str, typer.Option(metavar="COLUMN", help="sort by a column; -r turns it round")] = "",
    reverse: Annotated[bool, typer.Option("-r", "--reverse")] = False,
) -> None:
    """Jobs with their cost, saving, progress and end.

    What runs comes into a table before the newest that wait.

    dsched ps -a --sort spent -r        the dearest first
    """
    terminal = here(ctx)
    client = terminal.client()
    most = limit if limit >= 0 else ROWS if terminal.table else 0
    if terminal.json and not (most or sort or reverse):
        terminal.encoded(client.every_job(all=all, state=state, user=user))
        return
    if 0 < most <= JOBS_MAX and not sort:
        rows, more = client.page_of_jobs(all=all, state=state, user=user, limit=most)
        rows = rows[::-1] if reverse else rows
    else:
        rows = _sorted(every(client, all=all, state=state, user=user), sort, reverse=reverse)
        rows, more = (rows[:most], max(0, len(rows) - most)) if most else (rows, 0)
    health = client.health()
    terminal.rows(JOBS, rows, moment(health))
    if not terminal.table:
        return
    _beside(terminal, rows, more)
    if any(job["state"] in UNFINISHED for job in rows):
        terminal.note(health)


def every(client: Client, *, all: bool = False, state: str = "", user: str = "") -> list[Job]:
    """All of them, read."""
    pages = client.every_job(all=all, state=state, user=user)
    return [job for page in pages for job in json.loads(f"[{page}]")]


def _sorted(rows: list[Job], column: str, *, reverse: bool) -> list[Job]:
    if not column:
        return rows[::-1] if reverse else rows
    try:
        return order(rows, select(JOBS, [column])[0], reverse=reverse)
    except ValueError as e:
        raise trouble("E100", str(e)) from None


def _beside(terminal: Terminal, rows: list[Job], more: int) -> None:
    """What a table cannot say: what it leaves out, and what some jobs wait for."""
    if more:
        terminal.say(f"and {more:,} more: dsched ps -l 0 shows all, --state and --user fewer")
    if not rows:
        terminal.say("no jobs; dsched submit SPEC starts one, dsched demo shows one")
    waiting = [job for job in rows if job["state"] in ("queued", "held") and job["reason"]]
    for job in waiting[:_HINTS]:
        terminal.say(f"{show(job['id'])} waits: {show(job['reason'])}     dsched explain {show(job['id'])}")
