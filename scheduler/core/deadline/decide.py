"""A deadline policy asked about one job: an observation in, a decision out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np

from dsched.scheduler.core.deadline.view import (
    CODE,
    DOWN,
    IDLE,
    UNKNOWN,
    UP,
    Batch,
    DeadlinePolicy,
    Decision,
    Explain,
    Observation,
)

SLACK_STEP: Final = 1800.0  # s
UNPAYABLE: Final = 1e9  # $: policies value what cannot be done with sums beyond this
_STATE: Final = {True: UP, False: DOWN, None: UNKNOWN}


def decide(policy: DeadlinePolicy, observation: Observation) -> Decision:
    """What the policy wants of one job. Pure: the same observation gives the same decision."""
    answer = policy.choose(batch(observation))
    ids = [option.id for option in observation.options]
    at = int(answer.target[0])
    target = None if at == IDLE else ids[at]
    costs = {id: float(cost) for id, cost in zip(ids, answer.cost[0], strict=True)} | {"": float(answer.idle[0])}
    job = observation.job
    slack = job.deadline - observation.now - job.left - job.warm_in
    return Decision(
        target=target,
        revisit_at=float(answer.revisit[0]),
        why=Explain(
            policy=policy.name,
            slack=slack,
            slack_price=float(answer.slack_price[0]),
            costs=costs,
            net=bool(answer.net[0]),
        ),
    )


def slack_price(policy: DeadlinePolicy, observation: Observation, why: Explain) -> float:
    """Dollars per hour of slack: what half an hour less of it would cost, doubled. nan where nothing is valued.

    The derivative of the expected cost by the deadline, taken as a difference since the tables are piecewise linear.
    """
    if why.slack_price > 0:
        return why.slack_price
    less = replace(observation, job=replace(observation.job, deadline=observation.job.deadline - SLACK_STEP))
    now, then = _best(why.costs), _best(decide(policy, less).why.costs)
    return max(0.0, (then - now) * 3600.0 / SLACK_STEP) if math.isfinite(then - now) else math.nan


def _best(costs: dict[str, float]) -> float:
    return min((cost for cost in costs.values() if math.isfinite(cost) and cost < UNPAYABLE), default=math.nan)


def batch(observation: Observation) -> Batch:
    """The observation as a batch of one."""
    options, job = observation.options, observation.job
    regions = sorted({option.region for option in options})
    ids = [option.id for option in options]

    def row(values: list[float]) -> np.ndarray:
        return np.array([values], np.float64)

    return Batch(
        now=np.array([observation.now]),
        work=np.array([job.work]),
        left=np.array([job.left]),
        begun=np.array([job.begun]),
        deadline=np.array([job.deadline]),
        running=np.array([IDLE if job.running is None else ids.index(job.running)]),
        warm_in=np.array([job.warm_in]),
        lost=np.array([regions.index(job.lost) if job.lost in regions else -1]),
        grain=observation.grain,
        usable=np.ones((1, len(options)), bool),
        up=np.array([[_STATE[option.up] for option in options]]),
        age=row([option.age for option in options]),
        price=row([option.price for option in options]),
        speed=row([option.speed for option in options]),
        hazard=row([option.hazard for option in options]),
        changeover=row([option.changeover for option in options]),
        egress=row([option.egress for option in options]),
        market=np.array([[CODE[option.market] for option in options]]),
        region=np.array([[regions.index(option.region) for option in options]]),
        outlook=observation.outlook,
        proved=np.array([job.proved]),
    )
