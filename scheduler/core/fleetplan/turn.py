"""Whose turn it is: priority, then those whose nodes are being taken, then fair share, deadline and age.

In a crowd age yields to regret, see order.py.
"""

from __future__ import annotations

import math

from dsched.scheduler.core.share import Waiting
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.state import JobState


def turn(job: Job, worth: float = 0.0) -> Waiting[Job]:
    """Its place where the queue is short. `worth`: micro-dollars per hour that a slot held for us would save it."""
    deadline = math.inf if job.spec.deadline is None else job.spec.deadline
    return Waiting(rank(job), (deadline, -worth, job.submitted.market, job.id), job.spec.user, job)


def rank(job: Job) -> tuple[int, bool]:
    """What goes before all else: the priority, and within it those whose nodes are being taken."""
    return -job.spec.priority, job.state is not JobState.DRAINING
