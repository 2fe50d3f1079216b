"""What a job still has to do, and what it may still spend."""

from __future__ import annotations

import math

from dsched.scheduler.core import rank
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.units import Charge, Moment, to_charge


def timely(job: Job) -> bool:
    """Whether a deadline policy decides for it: it has a deadline, and says how much work it is."""
    return job.spec.deadline is not None and job.spec.duration is not None


def work_left(job: Job, question: Question) -> float | None:
    """Reference hours left, or None where nobody knows."""
    told = question.remaining.get(job.id)
    hours = rank.remaining_hours(job, question) if told is None else told
    return max(0.0, hours) if hours is not None and math.isfinite(hours) else None


def holds_work(job: Job) -> bool:
    """Whether a missed deadline would throw work away: then late is better than never."""
    return job.started is not None or job.checkpoint_step > 0


def money_left(job: Job) -> Charge | None:
    """Of the job's own limit; None: it has none."""
    return None if job.spec.cost_max is None else Charge(to_charge(job.spec.cost_max) - job.spent)


def demand_of(job: Job, reference: rank.Reference, question: Question, policy: Policy, now: Moment) -> rank.Demand:
    """What valuing an offer takes from this job."""
    spec = job.spec
    return rank.Demand(
        need=spec.need,
        reference=reference,
        remaining=work_left(job, question),
        deadline=spec.deadline,
        every=spec.checkpoint.every,
        drain=spec.drain,
        now=now.market,
        question=question,
        policy=policy,
        luggage=rank.luggage(job),
    )
