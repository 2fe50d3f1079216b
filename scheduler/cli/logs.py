"""`logs`, and the following of a job that `submit` does too."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated

import typer

from dsched.scheduler.api.client import Client
from dsched.scheduler.cli.act import JobArgument
from dsched.scheduler.cli.contract import Exit, exit_of_job
from dsched.scheduler.cli.lazy import here
from dsched.scheduler.cli.terminal import Terminal
from dsched.scheduler.view import format as f
from dsched.scheduler.view.jobs import UNFINISHED
from dsched.scheduler.view.safe import show, show_log
from dsched.scheduler.view.table import paint
from dsched.scheduler.wire.api import Attempt, Job, LogLine


def logs(
    ctx: typer.Context,
    job: JobArgument,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="until the job ends; Ctrl-C only detaches")] = False,
    rank: Annotated[int, typer.Option(help="of the gang")] = 0,
    attempt: Annotated[int, typer.Option("--attempt", help="only this generation; 0: all of them")] = 0,
) -> int:
    """One log of a job across all of its moves.

    dsched logs -f moe-ft
    """
    terminal = here(ctx)
    client = terminal.client()
    found = client.job(job)
    return tail(terminal, client, found, rank=rank, generation=attempt or None, follow=follow)


def tail(
    terminal: Terminal, client: Client, job: Job, *, rank: int = 0, generation: int | None = None, follow: bool
) -> int:
    """Print the log; Ctrl-C on a followed job leaves the job alone."""
    lines = client.logs(job["id"], rank=rank, generation=generation, follow=follow)
    try:
        _print(terminal, client, job, lines)
    except KeyboardInterrupt:
        if not follow:
            raise
        return _detached(terminal, client, job)
    return Exit.OK


def ended(terminal: Terminal, client: Client, job: str) -> int:
    """Say how a followed job ended, with its money; its exit code."""
    done = client.job(job)
    saved = f", saved {f.dollars(done['saved'])}" if not done["saved"].startswith("-") else ""
    reason = f": {show(done['reason'])}" if done["reason"] else ""
    moves = f", {done['moves']} moves" if done["moves"] else ""
    terminal.say(
        f"{show(done['id'])} {f.state(done['state'])}{reason}; spent {f.dollars(done['spent'])}{saved}{moves}",
        f.tone(done["state"]),
    )
    return int(exit_of_job(done["state"]))


def _print(terminal: Terminal, client: Client, job: Job, lines: Iterable[LogLine]) -> None:
    shown: int | None = None
    for line in lines:
        if terminal.json:
            terminal.line(json.dumps(line))
            continue
        if shown is not None and line["generation"] != shown:
            rule = _rule(client.attempts(job["id"]), shown, line["generation"])
            terminal.line(paint(rule, "dim", colour=terminal.colour))
        shown = line["generation"]
        for text in show_log(line["text"].removesuffix("\n")):
            terminal.line(text)
        terminal.out.flush()


def _rule(attempts: list[Attempt], before: int, after: int) -> str:
    """── moved A → B, 41s ──: the break between two attempts, where the log goes on elsewhere."""
    by_generation = {a["generation"]: a for a in attempts}
    old, new = by_generation.get(before), by_generation.get(after)
    if old is None or new is None:
        return f"── attempt {after} ──"
    here, there = f.place(old["where"]), f.place(new["where"])
    what = f"moved {here} → {there}" if here != there else f"started again on {there}"
    why = f" ({show(old['outcome'])})" if old["outcome"] else ""
    gap = ""
    if old["ended"] is not None and new["running"] is not None:
        gap = f", {f.duration(max(0, new['running'] - old['ended']) / 1000)}"
    step = f", from step {new['first_step']:,}" if new["first_step"] is not None else ""
    return f"── {what}{why}{gap}{step} ──"


def _detached(terminal: Terminal, client: Client, job: Job) -> int:
    name = show(job["id"])
    if client.job(job["id"])["state"] in UNFINISHED:
        terminal.say(f"\ndetached; {name} keeps running.     dsched logs -f {name}     dsched cancel {name}")
    return Exit.INTERRUPTED
