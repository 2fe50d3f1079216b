"""The columns of jobs and of their attempts."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from dsched.scheduler.core.units import Moment
from dsched.scheduler.view import format as f
from dsched.scheduler.view.column import Column, Tone
from dsched.scheduler.view.safe import show
from dsched.scheduler.wire.api import Attempt, Job

UNFINISHED: Final = frozenset({"queued", "held", "starting", "running", "draining", "paused"})


def job_state(job: Job) -> str:
    """The word that says most: a notice and a move tell more than "draining" does."""
    if job["state"] in UNFINISHED:
        if job["notice_wall"] is not None:
            return "notice"
        if job["next"]:
            return "moving"
    return job["state"]


def job_done(job: Job) -> float | None:
    """The finished share of the work, 0..1, where the total is known."""
    if job["state"] == "succeeded":
        return 1.0
    return min(1.0, job["step"] / job["steps"]) if job["steps"] else None


def _state(job: Job, now: Moment) -> str:
    notice = job["notice_wall"]
    left = f.duration(max(0, notice - now.wall) / 1000) if notice is not None else ""
    word = job_state(job)
    return f.state(word, left if word == "notice" else "")


def _where(job: Job, now: Moment) -> str:
    here = f.place(job["where"])
    return f"{here} → {f.place(job['next'])}" if job["next"] else here


def _tone(job: Job) -> Tone:
    return f.tone(job_state(job))


def _slack_tone(job: Job) -> Tone:
    slack = job["slack_s"]
    if slack is None:
        return ""
    return "bad" if slack < 0 else "warn" if slack < 3_600 else ""


JOBS: Final[tuple[Column[Job], ...]] = (
    Column(name="job", title="JOB", width=6, cell=lambda j, _: show(j["id"]), key=lambda j: j["id"]),
    Column(
        name="name", title="NAME", width=12, flex=True, cell=lambda j, _: show(j["name"], 63), key=lambda j: j["name"]
    ),
    Column(
        name="user", title="USER", width=6, wide=True, priority=8,
        cell=lambda j, _: show(j["user"], 32), key=lambda j: j["user"],
    ),
    Column(name="state", title="STATE", width=12, cell=_state, key=job_state, tone=_tone),
    Column(
        name="where", title="WHERE", width=20, flex=True, priority=5, cell=_where, key=lambda j: j["where"] or None
    ),
    Column(
        name="gpus", title="GPUS", width=7, align="right", priority=4,
        cell=lambda j, _: f.gpus(j["gpus"], j["accelerator"]), key=lambda j: j["gpus"],
    ),
    Column(
        name="burn", title="$/H", width=7, align="right", priority=2,
        cell=lambda j, _: f.money(j["burn"]) if Decimal(j["burn"]) else f.UNKNOWN, key=lambda j: Decimal(j["burn"]),
    ),
    Column(
        name="spent", title="SPENT", width=9, align="right",
        cell=lambda j, _: f.money(j["spent"]), key=lambda j: Decimal(j["spent"]), tone=lambda j: "strong",
    ),
    Column(
        name="saved", title="SAVED", width=13, align="right", priority=3,
        cell=lambda j, _: f.saving(j["saved"], j["baseline"]), key=lambda j: Decimal(j["saved"]),
        tone=lambda j: "good" if Decimal(j["saved"]) > 0 else "",
    ),
    Column(
        name="done", title="DONE", width=4, align="right", priority=1,
        cell=lambda j, _: f.percent(job_done(j)), key=job_done,
    ),
    Column(
        name="eta", title="ETA", width=6, align="right", priority=1,
        cell=lambda j, _: f.duration(j["eta_s"]), key=lambda j: j["eta_s"],
    ),
    Column(
        name="slack", title="SLACK", width=6, align="right", priority=7,
        cell=lambda j, _: f.duration(j["slack_s"]), key=lambda j: j["slack_s"], tone=_slack_tone,
    ),
    Column(
        name="moves", title="MOVES", width=5, align="right", priority=6,
        cell=lambda j, _: str(j["moves"]), key=lambda j: j["moves"],
    ),
    Column(
        name="age", title="AGE", width=4, align="right", priority=6,
        cell=lambda j, now: f.since(j["submitted"], now.market), key=lambda j: -j["submitted"],
    ),
    Column(
        name="step", title="STEP", width=7, align="right", wide=True, priority=9,
        cell=lambda j, _: f.number(j["step"]), key=lambda j: j["step"],
    ),
    Column(
        name="saved_step", title="CKPT", width=7, align="right", wide=True, priority=9,
        cell=lambda j, _: f.number(j["checkpoint_step"]), key=lambda j: j["checkpoint_step"],
    ),
    Column(
        name="loss", title="LOSS", width=6, align="right", wide=True, priority=10,
        cell=lambda j, _: f.number(j["loss"], 3), key=lambda j: j["loss"],
    ),
    Column(
        name="tokens", title="TOK/S", width=6, align="right", wide=True, priority=10,
        cell=lambda j, _: f.short(j["tokens_per_s"]), key=lambda j: j["tokens_per_s"],
    ),
    Column(
        name="interruptions", title="INTR", width=4, align="right", wide=True, priority=9,
        cell=lambda j, _: str(j["interruptions"]), key=lambda j: j["interruptions"],
    ),
    Column(
        name="priority", title="PRIO", width=4, align="right", wide=True, priority=11,
        cell=lambda j, _: str(j["priority"]), key=lambda j: j["priority"],
    ),
    Column(
        name="reason", title="REASON", width=20, flex=True, wide=True, priority=12,
        cell=lambda j, _: show(j["reason"]), key=lambda j: j["reason"] or None,
    ),
)  # fmt: skip


def _steps(attempt: Attempt, now: Moment) -> str:
    if attempt["first_step"] is None or attempt["last_step"] is None:
        return f.UNKNOWN
    return f"{attempt['first_step']:,}..{attempt['last_step']:,}"


def _lasted(attempt: Attempt, now: Moment) -> str:
    if attempt["running"] is None:
        return f.UNKNOWN
    end = now.market if attempt["ended"] is None else attempt["ended"]
    return f.duration((end - attempt["running"]) / 1000)


ATTEMPTS: Final[tuple[Column[Attempt], ...]] = (
    Column(
        name="generation", title="GEN", width=3, align="right",
        cell=lambda a, _: str(a["generation"]), key=lambda a: a["generation"],
    ),
    Column(
        name="where", title="WHERE", width=24, flex=True,
        cell=lambda a, _: f.place(a["where"]), key=lambda a: a["where"],
    ),
    Column(
        name="nodes", title="NODES", width=10, flex=True, wide=True, priority=5,
        cell=lambda a, _: show(" ".join(a["nodes"])), key=lambda a: " ".join(a["nodes"]),
    ),
    Column(
        name="ranks", title="RANKS", width=5, align="right", priority=3,
        cell=lambda a, _: str(a["world_size"]), key=lambda a: a["world_size"],
    ),
    Column(
        name="decided", title="DECIDED", width=12, priority=4,
        cell=lambda a, now: f.clock(a["decided"], now.market), key=lambda a: a["decided"],
    ),
    Column(name="lasted", title="LASTED", width=6, align="right", priority=1, cell=_lasted, key=lambda a: a["running"]),
    Column(name="steps", title="STEPS", width=11, align="right", priority=2, cell=_steps, key=lambda a: a["last_step"]),
    Column(
        name="outcome", title="OUTCOME", width=16, flex=True,
        cell=lambda a, _: show(a["outcome"]) or f.state("running"), key=lambda a: a["outcome"],
        tone=lambda a: "good" if a["outcome"] in ("", "succeeded") else "warn",
    ),
)  # fmt: skip
