"""`wait`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Annotated, Final

import typer

from dsched.scheduler.api.client import Client
from dsched.scheduler.cli.act import JobArgument
from dsched.scheduler.cli.contract import Exit, exit_of_job
from dsched.scheduler.cli.lazy import here
from dsched.scheduler.cli.trouble import trouble
from dsched.scheduler.view import format as f
from dsched.scheduler.view.jobs import UNFINISHED
from dsched.scheduler.view.safe import show
from dsched.scheduler.wire.api import Job

GOALS: Final = ("ended", "succeeded", "failed", "cancelled", "running", "paused", "queued", "held")


class Expired(Exception):
    """The time is up."""


def wait(
    ctx: typer.Context,
    job: JobArgument,
    goal: Annotated[str, typer.Option("--for", metavar="STATE", help=" | ".join(GOALS))] = "succeeded",
    timeout: Annotated[str, typer.Option(metavar="TIME", help="such as 90s or 2h; exit 8 when it is over")] = "",
) -> int:
    """Wait for a job to end, or to reach a state. Exit 0, or 100 failed, 101 unfinished, 103 cancelled, 8 timed out."""
    if goal not in GOALS:
        near = get_close_matches(goal, GOALS, 1)
        raise trouble(
            "E100", f"cannot wait for {goal!r}" + (f"; did you mean {near[0]}?" if near else ""), "|".join(GOALS)
        )
    terminal = here(ctx)
    client = terminal.client()
    with _within(_seconds(timeout)):
        try:
            found = until(client, job, goal)
        except Expired:
            found = client.job(job)
            state = f.state(found["state"])
            raise trouble(
                "E408", f"{found['id']} is still {state} after {timeout}", f"dsched explain {found['id']}"
            ) from None
    reason = f": {show(found['reason'])}" if found["reason"] else ""
    terminal.value(dict(found), [f"{show(found['id'])} {f.state(found['state'])}{reason}"], found["id"])
    return Exit.OK if reached(found, goal) else int(exit_of_job(found["state"]) or Exit.FAILED)


def until(client: Client, name: str, goal: str) -> Job:
    """The job once it has reached the goal or ended. Woken by its events, never polling."""
    seq = client.health()["seq"]  # before the first look, so that nothing between look and stream is missed
    job = client.job(name)
    events = client.follow_events(after=seq, job=job["id"])
    while not reached(job, goal) and job["state"] in UNFINISHED:
        next(events)
        job = client.job(job["id"])
    return job


def reached(job: Job, goal: str) -> bool:
    if goal == "ended":
        return job["state"] not in UNFINISHED
    if goal == "running":
        return job["state"] in ("running", "succeeded")
    return job["state"] == goal


def _seconds(text: str) -> float:
    if not text:
        return 0.0
    from dsched.scheduler.wire.quantity import duration

    try:
        return duration(text) / 1000
    except ValueError as e:
        raise trouble("E100", f"--timeout: {e}") from None


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise Expired in the middle of whatever waits; 0: never."""

    def expire(signum: int, frame: object) -> None:
        raise Expired

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
