"""Whose turn it is: the jobs with a deadline whose time to be looked at again has come."""

from __future__ import annotations

from dsched.scheduler.core.draft import Draft
from dsched.scheduler.core.snapshot import ACTIVE, queue_class
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import Instant
from dsched.scheduler.core.work import timely


def due(draft: Draft) -> None:
    """Mark the jobs whose revisit time has come: the next pass of the planner looks at them."""
    state, now = draft.state, draft.now.market
    for name in [name for name, at in state.revisits.items() if at <= now]:
        job = state.jobs.get(name)
        active = job is not None and job.state in ACTIVE
        if job is None or not timely(job):
            if not active:  # else its turn is migrate.py's
                draft.learn(state.revisits, name, None)
            continue
        # Whoever cannot be asked now, because it moves or leaves, must be asked later all the same.
        draft.learn(state.revisits, name, Instant(now + draft.policy.revisit) if active else None)
        if job.state is JobState.QUEUED:
            draft.learn(state.waits, name, None)
            state.unblock(queue_class(job))
            state.dirty = True
        elif job.state in (JobState.RUNNING, JobState.STARTING):
            draft.learn(state.due, name, now)
            state.dirty = True


def all_due(draft: Draft) -> None:
    """After a restart nobody knows when who was to be looked at: all of them now."""
    for name, job in draft.state.jobs.items():
        if timely(job) and (job.state is JobState.QUEUED or job.state in ACTIVE):
            draft.learn(draft.state.revisits, name, draft.now.market)
