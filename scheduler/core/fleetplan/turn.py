"""Whose turn it is: priority, then those whose nodes are being taken, then fair share, deadline and age.

In a crowd, age yields to regret: whoever would lose most by coming late comes early, since first come, first served
costs a fleet a third more than it must. Nobody waits for ever: a job that has waited for `Policy.patience` goes by age.
"""

from __future__ import annotations

import math
from typing import TypeVar

from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.share import Order, Waiting
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import HOUR, Moment

T = TypeVar("T")


def turn(job: Job, worth: float = 0.0) -> Waiting[Job]:
    """Its place where the queue is short. `worth`: micro-dollars per hour that a slot held for us would save it."""
    deadline = math.inf if job.spec.deadline is None else job.spec.deadline
    return Waiting(_rank(job), (deadline, -worth, job.submitted.market, job.id), job.spec.user, job)


def crowded(job: Job, what: T, regret: float, work: float | None, policy: Policy, now: Moment) -> Waiting[T]:
    """Its place in a crowd. `regret`: micro-dollars that coming late would cost the job; `work`: hours."""
    spec, waited = job.spec, now.market - job.submitted.market
    deadline = math.inf
    if spec.deadline is not None and spec.deadline - now.market - (work or 0.0) * HOUR < policy.urgent:
        deadline = spec.deadline  # the others can wait their turn and still make theirs
    by_regret = 0.0 if deadline < math.inf else -math.inf if waited >= policy.patience else -regret
    return Waiting(_rank(job), (deadline, by_regret, job.submitted.market, job.id), spec.user, what)


def _rank(job: Job) -> Order:
    return -job.spec.priority, job.state is not JobState.DRAINING
