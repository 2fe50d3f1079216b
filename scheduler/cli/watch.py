"""`events` and `info`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from dsched.scheduler.cli.complete import job_names
from dsched.scheduler.cli.lazy import here
from dsched.scheduler.cli.terminal import Terminal, moment
from dsched.scheduler.core.units import Moment
from dsched.scheduler.view import format as f
from dsched.scheduler.view.log import EVENTS
from dsched.scheduler.view.safe import show
from dsched.scheduler.view.table import GAP, cells_wide
from dsched.scheduler.wire.api import Event

_LAST = 50  # events shown unless told otherwise


def events(
    ctx: typer.Context,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="and what comes, until Ctrl-C")] = False,
    job: Annotated[str, typer.Option(autocompletion=job_names, help="only this job's")] = "",
    after: Annotated[int, typer.Option(metavar="SEQ", help="only those behind this one")] = 0,
    limit: Annotated[int, typer.Option("-l", "--limit", help="at most so many")] = _LAST,
) -> None:
    """What happened and why; -f follows.

    dsched events -f --job moe-ft -o jsonl
    """
    terminal = here(ctx)
    client = terminal.client()
    health = client.health()
    now = moment(health)
    rows = client.events(after=after, limit=limit, job=job)
    if not follow:
        terminal.rows(EVENTS, rows, now, name="seq")
        return
    last = after
    for event in rows:
        _print(terminal, event, now)
        last = event["seq"]
    terminal.out.flush()
    for event in client.follow_events(after=last or health["seq"], job=job):
        _print(terminal, event, now)
        terminal.out.flush()


def _print(terminal: Terminal, event: Event, now: Moment) -> None:
    """One event on one line; a stream has no widths to fit, so columns keep their usual ones."""
    if terminal.json:
        terminal.line(json.dumps(event))
        return
    cells = [
        f"{column.cell(event, now):>{column.width}}"
        if column.align == "right"
        else _left(column.cell(event, now), column.width)
        for column in EVENTS
        if not column.wide
    ]
    terminal.line(GAP.join(cells).rstrip())


def _left(text: str, width: int) -> str:
    return text + " " * (width - cells_wide(text))


def info(ctx: typer.Context) -> None:
    """The daemon, its clocks and its providers."""
    terminal = here(ctx)
    client = terminal.client()
    health = client.health()
    now = moment(health)
    jobs = ", ".join(f"{count} {show(state)}" for state, count in sorted(health["jobs"].items())) or "none"
    lines = [
        f"daemon     {show(health['version'])}, pid {health['pid']}, {'ready' if health['ready'] else 'starting'}",
        f"socket     {show(client.path)}",
        f"jobs       {jobs}",
        f"burn       {f.dollars(health['burn'])}/h",
        f"market     {f.second(now.market)}, {health['scale']:g}x wall time {show(health['market_note'])}".rstrip(),
        f"events     {health['seq']:,}",
    ]
    for name, provider in sorted(health["providers"].items()):
        state = f.state("ok" if provider.get("ok") else "fail")
        why = f", {show(str(provider['why']))}" if provider.get("why") else ""
        lines.append(
            f"provider   {show(name)} {state}, {provider.get('nodes', 0)} nodes, "
            f"prices {f.age(provider.get('prices_age_s'))} old{why}"
        )
        ailing = provider.get("ailing") or {}
        lines += [f"           {show(f'{part}: {said}')}" for part, said in ailing.items()]
    terminal.value(dict(health), lines, client.path)
