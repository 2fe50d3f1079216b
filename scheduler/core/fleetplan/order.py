"""Whose turn it is in a crowd: as in turn.py, but age yields to regret.

Whoever would lose most by coming late comes early, since first come, first served costs a fleet a third more than it
must. Nobody waits for ever: a job that has waited for `Policy.patience` goes by age.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from dsched.scheduler.core.fleetplan.columns import Ints
from dsched.scheduler.core.fleetplan.turn import rank
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.units import HOUR, Moment

_NEVER: Final = math.inf


def crowded(
    jobs: Sequence[Job], regrets: Sequence[float], works: Sequence[float | None], policy: Policy, now: Moment
) -> Ints:
    """The places of a crowd's jobs in the order of service. [J]

    `regrets`: micro-dollars that coming late would cost each; `works`: hours.
    """
    regret, hours = np.array(regrets, np.float64), np.array([work or 0.0 for work in works], np.float64)
    due = np.array([_NEVER if job.spec.deadline is None else job.spec.deadline for job in jobs], np.float64)
    came = np.array([job.submitted.market for job in jobs], np.int64)
    urgent = due - now.market - hours * HOUR < policy.urgent  # the others can wait their turn and still make theirs
    regret[now.market - came >= policy.patience] = np.inf
    regret[urgent] = 0.0
    ranks = np.array([rank(job) for job in jobs], np.int64).reshape(-1, 2)
    by_name = np.array(sorted(range(len(jobs)), key=lambda at: jobs[at].id), np.int64)
    keys = (came, -regret, np.where(urgent, due, np.inf), ranks[:, 1], ranks[:, 0])
    return by_name[np.lexsort([key[by_name] for key in keys])]
