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


def crowded(jobs: Sequence[Job], regrets: Sequence[float], works: Sequence[float], policy: Policy, now: Moment) -> Ints:
    """The places of a crowd's jobs in the order of service. [J]

    `regrets`: micro-dollars that coming late would cost each; `works`: hours, 0 where they are not known.
    """
    regret, hours = np.array(regrets, np.float64), np.array(works, np.float64)
    deadlines = [job.spec.deadline for job in jobs]
    due = np.array([_NEVER if deadline is None else deadline for deadline in deadlines], np.float64)
    came = np.array([job.submitted.market for job in jobs], np.int64)
    urgent = due - now.market - hours * HOUR < policy.urgent  # the others can wait their turn and still make theirs
    regret[now.market - came >= policy.patience] = np.inf
    regret[urgent] = 0.0
    priority, moving = zip(*map(rank, jobs), strict=True) if jobs else ((), ())
    names = [job.id for job in jobs]
    by_name = np.array(sorted(range(len(jobs)), key=names.__getitem__), np.int64)
    keys = (came, -regret, np.where(urgent, due, np.inf), np.array(moving, np.int64), np.array(priority, np.int64))
    return by_name[np.lexsort([key[by_name] for key in keys])]
