"""What a person tells a job to do: cancel, pause, resume, checkpoint, migrate. What costs money says so and asks."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import typer

from dsched.scheduler.cli.complete import job_names
from dsched.scheduler.cli.contract import Exit
from dsched.scheduler.cli.lazy import here
from dsched.scheduler.cli.terminal import Terminal, moment
from dsched.scheduler.cli.trouble import trouble
from dsched.scheduler.view import format as f
from dsched.scheduler.view.plan import plan_text
from dsched.scheduler.view.safe import show
from dsched.scheduler.wire.api import Act, Job

JobsArgument = Annotated[list[str], typer.Argument(metavar="JOB...", autocompletion=job_names, help="ids or names")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", autocompletion=job_names, help="id or name")]


def cancel(
    ctx: typer.Context,
    jobs: JobsArgument,
    now: Annotated[bool, typer.Option("--now", help="without a last checkpoint")] = False,
) -> None:
    """Checkpoint, then stop for good."""
    terminal = here(ctx)
    client = terminal.client()
    for job in [client.job(name) for name in jobs]:
        lost = _unsaved(job)
        cost = f"; {lost:,} steps since the last checkpoint are lost" if now and lost else ""
        if terminal.ask(f"cancel {_called(job)} for good? {_money(job)}{cost}"):
            _told(terminal, client.act(job["id"], "cancel", Act(now=True) if now else Act()))


def pause(ctx: typer.Context, jobs: JobsArgument) -> None:
    """Checkpoint, then stop until `resume`."""
    terminal = here(ctx)
    client = terminal.client()
    for job in [client.job(name) for name in jobs]:
        if terminal.ask(f"pause {_called(job)}? {_money(job)}; its place may be gone when it resumes"):
            _told(terminal, client.act(job["id"], "pause"))


def resume(ctx: typer.Context, jobs: JobsArgument) -> None:
    """Queue a paused job again."""
    terminal = here(ctx)
    for name in jobs:
        _told(terminal, terminal.client().act(name, "resume"))


def checkpoint(ctx: typer.Context, jobs: JobsArgument) -> None:
    """Write a checkpoint now."""
    terminal = here(ctx)
    for name in jobs:
        _told(terminal, terminal.client().act(name, "checkpoint"))


def migrate(
    ctx: typer.Context,
    job: JobArgument,
    to: Annotated[
        str, typer.Option(metavar="PLACE", help="a glob over provider/zone; anywhere better when absent")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only show what it would gain")] = False,
    force: Annotated[bool, typer.Option("--force", help="even where it costs more than staying")] = False,
) -> int:
    """Move a job; shows what it gains first. Exit 6 when it would lose money, unless --force."""
    terminal = here(ctx)
    client = terminal.client()
    current = client.job(job)
    trial = client.act(current["id"], "migrate", Act(dry_run=True, to=to) if to else Act(dry_run=True))
    gain = _gain(trial)
    if dry_run:
        lines = plan_text(trial["plan"], moment(client.health()), width=terminal.width, colour=terminal.colour)
        terminal.value(trial, [*lines, _gained(gain)], current["id"])
        return Exit.OK
    if trial["plan"]["chosen"] is None:
        raise trouble("E601", trial["plan"]["summary"], f"dsched migrate {current['id']} --dry-run")
    if gain is not None and gain < 0 and not force:
        raise trouble("E601", f"staying is cheaper: {_gained(gain)}", f"dsched migrate {current['id']} --force")
    place = f.place(trial["plan"]["chosen"])
    if terminal.ask(f"move {_called(current)} to {place}? {_gained(gain)}; {_money(current)}"):
        _told(terminal, client.act(current["id"], "migrate", Act(to=to) if to else Act()))
    return Exit.OK


def _gain(trial: dict[str, Any]) -> Decimal | None:
    """Dollars per hour that the move would save; None where a price is not known."""
    gain = trial.get("gain")
    per_hour = gain.get("per_hour") if isinstance(gain, dict) else gain
    return None if per_hour is None else Decimal(per_hour)


def _gained(gain: Decimal | None) -> str:
    if gain is None:
        return "what it saves is not known"
    return f"it saves {f.dollars(gain)}/h" if gain >= 0 else f"it costs {f.dollars(-gain)}/h more"


def _called(job: Job) -> str:
    return f"{show(job['name'])} ({show(job['id'])})"


def _money(job: Job) -> str:
    spent = f"it has spent {f.dollars(job['spent'])}"
    return f"{spent} and burns {f.dollars(job['burn'])}/h" if Decimal(job["burn"]) else spent


def _unsaved(job: Job) -> int:
    return max(0, job["step"] - job["checkpoint_step"])


def _told(terminal: Terminal, job: Job) -> None:
    """What became of it; the job itself for programs."""
    kept = f", kept: step {job['checkpoint_step']:,}" if job["checkpoint_step"] else ""
    reason = f": {show(job['reason'])}" if job["reason"] else ""
    terminal.value(dict(job), [f"{show(job['id'])} {f.state(job['state'])}{reason}{kept}"], job["id"])
