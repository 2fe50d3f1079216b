"""When a running job is looked at again: its deadline policy, its place, or its size may have become another.

    State.revisits   job -> when its deadline policy is asked again; without one, when it may move (migrate.py)
    State.reviewed   elastic job -> when its size is looked at (elastic/review.py)

Every running job has its time in these tables, so that a tick reads the tables and not ten thousand jobs. They are not
durable: after a restart all are due.
"""

from __future__ import annotations

from typing import Final

from dsched.scheduler.core.draft import Draft
from dsched.scheduler.core.snapshot import ACTIVE, After, Job, queue_class
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import MINUTE, Instant, Millis
from dsched.scheduler.core.work import timely

RESIZED: Final = Millis(5 * MINUTE)  # market, between two looks at the size of one gang


def begin(draft: Draft, job: Job, since: Instant) -> None:
    """It runs, for the first time `since` (market): from now on it has its times."""
    state = draft.state
    if job.id not in state.revisits:
        draft.learn(state.revisits, job.id, Instant(since + draft.policy.revisit))
    if elastic(job) and job.id not in state.reviewed:
        draft.learn(state.reviewed, job.id, Instant(since + RESIZED))


def restarted(draft: Draft) -> None:
    """Nobody knows any more when who was to be looked at: all of them now."""
    state = draft.state
    for name, job in state.jobs.items():
        if timely(job) and (job.state is JobState.QUEUED or job.state in ACTIVE):
            draft.learn(state.revisits, name, draft.now.market)
        elif job.state is JobState.RUNNING:
            begin(draft, job, job.started or Instant(0))


def elastic(job: Job) -> bool:
    """Whether its gang may change its size for the price."""
    return job.spec.need.gpus_min < job.spec.need.gpus_max and not timely(job)


def works(job: Job) -> bool:
    """Whether it runs, and neither leaves nor awaits other machines: then its place and its size are in question."""
    return job.state is JobState.RUNNING and job.after is After.NOTHING and not job.next_nodes


def due(draft: Draft) -> None:
    """Mark the jobs whose deadline policy is to be asked again: the next pass of the planner looks at them.

    Those without one are left to migrate.py where they can be moved; where they cannot, they come again later.
    """
    state, now = draft.state, draft.now.market
    for name in [name for name, at in state.revisits.items() if at <= now]:
        job = state.jobs.get(name)
        if job is not None and works(job) and not timely(job):
            continue
        # Whoever cannot be asked now, because it moves or leaves, must be asked later all the same.
        active = job is not None and job.state in ACTIVE
        draft.learn(state.revisits, name, Instant(now + draft.policy.revisit) if active else None)
        if job is None or not timely(job):
            continue
        if job.state is JobState.QUEUED:
            draft.learn(state.waits, name, None)
            state.unblock(queue_class(job))
            state.dirty = True
        elif job.state in (JobState.RUNNING, JobState.STARTING):
            draft.learn(state.due, name, now)
            state.dirty = True
