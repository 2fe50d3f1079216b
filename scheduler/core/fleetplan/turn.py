"""Whose turn it is: priority, then those whose nodes are being taken, then fair share, deadline and age.

In a crowd, age yields to regret: whoever would lose most by coming late comes early, since first come, first served
costs a fleet a third more than it must. Nobody waits for ever: a job that has waited for `Policy.patience` goes by age.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import HOUR, Moment

Turn = tuple[int, bool, int, float, float, int, str]


def turn(job: Job, level: int = 0) -> Turn:
    """The key of service where the queue is short."""
    deadline = math.inf if job.spec.deadline is None else job.spec.deadline
    return -job.spec.priority, job.state is not JobState.DRAINING, level, deadline, 0.0, job.submitted.market, job.id


def crowded(job: Job, level: int, regret: float, work: float | None, policy: Policy, now: Moment) -> Turn:
    """The key of service in a crowd. `regret`: micro-dollars that coming late would cost the job."""
    spec, waited = job.spec, now.market - job.submitted.market
    deadline = math.inf
    if spec.deadline is not None and spec.deadline - now.market - (work or 0.0) * HOUR < policy.urgent:
        deadline = spec.deadline  # the others can wait their turn and still make theirs
    by_regret = 0.0 if deadline < math.inf else -math.inf if waited >= policy.patience else -regret
    return -spec.priority, job.state is not JobState.DRAINING, level, deadline, by_regret, job.submitted.market, job.id


def levels(shares: Mapping[str, float]) -> dict[str, int]:
    """How many times over its share each user is, in octaves: 0 up to it, 1 to twice, 2 to four times, ..."""
    return {user: 0 if part <= 1.0 else math.ceil(math.log2(part)) for user, part in shares.items()}
