"""The queue's order, and the classes of jobs in it: what one of a class finds, all of it find."""

from __future__ import annotations

from typing import Final, NamedTuple

from dsched.scheduler.core.job import Need
from dsched.scheduler.core.rows import Job
from dsched.scheduler.core.units import Millis

QueueKey = tuple[int, int, int, str]  # priority (negated), deadline, submitted, id: the order of service


class Kind(NamedTuple):
    """A class of one user's jobs that fit the same offers and draw on the same budget: what one finds, all find."""

    need: Need
    budget: str
    user: str
    drain: Millis
    alone: str  # id of a job whose own deadline or limit decides; such a job is a class by itself


def queue_class(job: Job) -> Kind:
    spec = job.spec
    own = spec.deadline is not None or spec.cost_max is not None or spec.need.spot_share < 1.0
    return Kind(spec.need, spec.budget, spec.user, spec.drain, job.id if own else "")


def queue_key(job: Job) -> QueueKey:
    """Priority, then deadline, then age; the id breaks ties."""
    return -job.spec.priority, job.spec.deadline or _NEVER, job.submitted.wall, job.id


_NEVER: Final = 1 << 62
