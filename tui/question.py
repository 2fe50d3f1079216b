"""What a destructive key asks before it acts: always with the money, and with what is kept. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from dsched.scheduler.view import format as f
from dsched.scheduler.view.jobs import UNFINISHED, job_state
from dsched.scheduler.view.safe import show
from dsched.scheduler.wire.api import Job
from dsched.tui.view import STYLES, Part

LISTED_MAX: Final = 8  # jobs named in one question; the rest are counted
_TAKES: Final[Mapping[str, frozenset[str]]] = {
    "cancel": UNFINISHED,
    "pause": frozenset({"queued", "starting", "running", "draining"}),
    "resume": frozenset({"paused", "held"}),
    "migrate": frozenset({"running"}),
}


@dataclass(frozen=True, slots=True)
class Question:
    title: str
    lines: list[list[Part]]
    yes: str  # the verb on the button
    no: str = "Leave it"
    possible: bool = True  # False: nothing would be gained or done; it only informs


@dataclass(frozen=True, slots=True)
class DryRun:
    """What the daemon says a migration would do."""

    to: str  # pool id, "" when no offer is chosen
    price: str | None  # $/h there
    gain: str | None  # $/h saved at today's prices; negative: it costs more
    why: str


def takes(action: str, job: Job) -> bool:
    """Whether this job's state allows the action at all."""
    return job["state"] in _TAKES[action]


def dry_run(answer: Mapping[str, Any]) -> DryRun:
    """Read the daemon's answer to a migration with `dry_run`."""
    plan = answer.get("plan") or {}
    chosen = plan.get("chosen")
    gain = answer.get("gain") or {}
    return DryRun(to=chosen or "", price=gain.get("to"), gain=gain.get("per_hour"), why=str(plan.get("summary") or ""))


def question(action: str, jobs: Sequence[Job], dry: Mapping[str, DryRun] | None = None) -> Question:
    if action == "migrate":
        return _migrate(jobs, dry or {})
    verb = action.capitalize()
    if len(jobs) == 1:
        return Question(_title(verb, jobs), _one(action, jobs[0]), verb)
    return Question(_title(verb, jobs), [*_many(jobs), *_sums(action, jobs)], verb)


def _title(verb: str, jobs: Sequence[Job]) -> str:
    return (
        f"{verb} {show(jobs[0]['id'])} {show(jobs[0]['name'], 40)}?" if len(jobs) == 1 else f"{verb} {len(jobs)} jobs?"
    )


def _one(action: str, job: Job) -> list[list[Part]]:
    lines = [_line("state", f.state(job_state(job)), STYLES[f.tone(job_state(job))]), *_sums(action, [job])]
    if action in ("cancel", "pause"):
        lines.append(_line("kept", _kept(job)))
    return lines


def _sums(action: str, jobs: Sequence[Job]) -> list[list[Part]]:
    spent = sum(Decimal(j["spent"]) for j in jobs)
    saved = sum(Decimal(j["saved"]) for j in jobs)
    burn = sum(Decimal(j["burn"]) for j in jobs)
    lines = [
        _line("spent so far", f"{f.dollars(Decimal(spent))}   saved {f.dollars(Decimal(saved))} against on-demand")
    ]
    if action == "resume":
        lines.append(_line("burn", "nothing now; spends again once an offer is found, within its budget"))
    else:
        lines.append(_line("burn", f"{f.dollars(Decimal(burn))}/h, {_END[action] if burn else 'nothing to stop'}"))
    return lines


_END: Final = {
    "cancel": "stops for good",
    "pause": "stops until it is resumed",
    "migrate": "goes on elsewhere",
    "stay": "goes on where it is",
}


def _kept(job: Job) -> str:
    if job["state"] in ("queued", "held", "paused"):
        at = job["checkpoint_step"]
        return f"step {at:,} is saved" if at else "nothing was computed yet"
    if not job["checkpoint_step"]:
        return "a checkpoint is written first, if the job can"
    younger = max(0, job["step"] - job["checkpoint_step"])
    return f"step {job['checkpoint_step']:,} is saved; the {younger:,} steps since are saved first"


def _many(jobs: Sequence[Job]) -> list[list[Part]]:
    lines: list[list[Part]] = [
        [
            (f"{f.state(job_state(j)):<14.14} ", STYLES[f.tone(job_state(j))]),
            (f"{show(j['id']):<8} {show(j['name'], 24):<24} ", ""),
            (f"{f.dollars(j['spent']):>11}", "bold"),
            (f"  {f.dollars(j['burn'])}/h", STYLES["dim"]),
        ]
        for j in jobs[:LISTED_MAX]
    ]
    if len(jobs) > LISTED_MAX:
        lines.append([(f"and {len(jobs) - LISTED_MAX:,} more", STYLES["dim"])])
    return [*lines, []]


def _migrate(jobs: Sequence[Job], dry: Mapping[str, DryRun]) -> Question:
    lines: list[list[Part]] = []
    able = 0
    for job in jobs[:LISTED_MAX]:
        run = dry[job["id"]]
        if len(jobs) > 1:
            lines.append([(f"{show(job['id'])} {show(job['name'], 40)}", "bold")])
        lines.append(_line("now", f"{f.place(job['where'])}   {f.dollars(job['burn'])}/h"))
        if not run.to or run.to == job["where"]:
            lines.append(_line("to", f"nothing better: {show(run.why) or 'it stays where it is'}", STYLES["warn"]))
        else:
            able += 1
            lines.append(_line("to", f"{f.place(run.to)}   {f.dollars(run.price)}/h"))
            lines.append(_gain(run))
        lines.append([])
    lines += _sums("migrate" if able else "stay", jobs)
    if len(jobs) == 1:
        lines.append(_line("kept", _kept(jobs[0])))
    return Question(_title("Migrate", jobs), lines, "Migrate", possible=able > 0)


def _gain(run: DryRun) -> list[Part]:
    if run.gain is None:
        return _line("gain", "not known: a price is missing", STYLES["warn"])
    if Decimal(run.gain) < 0:
        return _line("gain", f"none: it COSTS {f.dollars(-Decimal(run.gain))}/h more at today's prices", STYLES["bad"])
    return _line("gain", f"{f.dollars(run.gain)}/h at today's prices, before what the move costs", STYLES["good"])


def _line(label: str, text: str, style: str = "") -> list[Part]:
    return [(f"{label:<13}", STYLES["dim"]), (text, style)]
