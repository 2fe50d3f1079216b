"""What people may ask for, and when: jobs submitted, cancelled, paused, resumed, migrated, checkpointed."""

from __future__ import annotations

from typing import Final

from dsched.scheduler.core import lifecycle
from dsched.scheduler.core.draft import Draft, insert
from dsched.scheduler.core.effect import TellCheckpoint
from dsched.scheduler.core.message import Act, Action, Refusal, Submit
from dsched.scheduler.core.snapshot import After, Job
from dsched.scheduler.core.state import TERMINAL, JobFact, JobState
from dsched.scheduler.core.units import Millis

HELD_BY_BUDGET: Final = "the budget is spent"


def submit(draft: Draft, wish: Submit) -> str:
    """A new job, or the one that this key already made."""
    state = draft.state
    if wish.key in state.keys:
        return state.keys[wish.key]
    draft.set("jobs_made", state.jobs_made + 1)
    name = f"j{state.jobs_made}" if state.era == 1 else f"j{state.jobs_made}e{state.era}"
    job = Job(id=name, key=wish.key, spec=wish.spec, state=JobState.QUEUED, submitted=draft.now)
    draft.say("job.submitted", insert("job", job.id, job), job=job.id, data={"name": wish.spec.name})
    budget = state.budgets.get(wish.spec.budget)
    if budget and budget.exhausted:
        draft.job(state.jobs[job.id], "held", JobFact.HOLD, why=HELD_BY_BUDGET)
    state.dirty = True
    return job.id


def act(draft: Draft, wish: Act) -> str:
    """Carry out a person's wish. Raises Refusal when the job's state does not allow it."""
    job = draft.state.jobs.get(wish.job)
    if job is None:
        raise Refusal("E404", f"no job {wish.job}", hint="dsched ps -a lists all jobs")
    by = f" by {wish.by}" if wish.by else ""
    match wish.action:
        case Action.CANCEL:
            _cancel(draft, job, f"cancelled{by}", now=wish.now)
        case Action.PAUSE:
            _pause(draft, job, f"paused{by}")
        case Action.RESUME:
            _resume(draft, job, f"resumed{by}")
        case Action.MIGRATE:
            _migrate(draft, job, wish.to, f"migration asked{by}")
        case Action.CHECKPOINT:
            _checkpoint(draft, job)
    return job.id


def migratable(job: Job) -> None:
    """Raises Refusal where there is nothing to migrate."""
    if job.state is not JobState.RUNNING or job.after is not After.NOTHING:
        raise _not_now(job, "migrate")


def _not_now(job: Job, action: str) -> Refusal:
    return Refusal("E409", f"{job.id} is {job.state}: cannot {action} it now", hint=f"dsched explain {job.id}")


def _cancel(draft: Draft, job: Job, why: str, *, now: bool) -> None:
    if job.state in TERMINAL:
        raise _not_now(job, "cancel")
    if job.state in (JobState.QUEUED, JobState.HELD, JobState.PAUSED):
        lifecycle.end(draft, job, JobFact.CANCEL, why)
    else:
        lifecycle.drain(draft, job, After.CANCEL, why, grace=Millis(0) if now else None)


def _pause(draft: Draft, job: Job, why: str) -> None:
    if job.state is JobState.QUEUED:
        draft.job(job, "held", JobFact.HOLD, why=why)
    elif job.state in (JobState.STARTING, JobState.RUNNING, JobState.DRAINING) and job.after is not After.CANCEL:
        lifecycle.drain(draft, job, After.PAUSE, why)
    else:
        raise _not_now(job, "pause")


def _resume(draft: Draft, job: Job, why: str) -> None:
    budget = draft.state.budgets.get(job.spec.budget)
    if budget and budget.exhausted:
        raise Refusal("E402", f"budget {budget.name} is spent", hint=f"dsched budget set {budget.name} AMOUNT")
    if job.state is JobState.PAUSED:
        draft.job(job, "resumed", JobFact.RESUME, why=why)
    elif job.state is JobState.HELD:
        draft.job(job, "released", JobFact.RELEASE, why=why)
    else:
        raise _not_now(job, "resume")
    draft.state.dirty = True


def _migrate(draft: Draft, job: Job, to: tuple[str, ...], why: str) -> None:
    migratable(job)
    draft.job(job, "migrating", after=After.MOVE, places=to, why=why)
    draft.state.dirty = True


def _checkpoint(draft: Draft, job: Job) -> None:
    if job.state is not JobState.RUNNING:
        raise _not_now(job, "checkpoint")
    draft.do(*(TellCheckpoint(node=n, job=job.id, generation=job.generation) for n in job.nodes))
