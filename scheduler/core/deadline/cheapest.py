"""Which option costs least, for whole batches: what the safety net and every baseline ask.

A spot option may be tried unless it is known to be down. A sure option is on-demand or reserved: nobody takes it back.
"""

from __future__ import annotations

import numpy as np

from dsched.scheduler.core.deadline.view import DOWN, IDLE, SPOT, Batch, Bools, Choices, Floats, Ints

HOUR = 3600.0
PAID = 0.01  # $/h: a gang that costs less runs on slots that are held for us; no list has such a price
LEVEL = 1e-9  # $: two costs closer than this are the same, and the first of them is taken


def spots(batch: Batch) -> Bools:
    """[J, O] spot options that may be tried now."""
    found: Bools = batch.usable & (batch.market == SPOT) & (batch.up != DOWN)
    return found


def sure(batch: Batch) -> Bools:
    """[J, O] options that stay once they are had."""
    found: Bools = batch.usable & (batch.market != SPOT) & (batch.up != DOWN)
    return found


def at_running(batch: Batch, values: Floats) -> Floats:
    """[J] the values [J, O] of the running options; 0 where the job idles."""
    return np.where(batch.running >= 0, at(values, np.maximum(batch.running, 0)), 0.0)


def at(values: Floats, option: Ints) -> Floats:
    """[J] of values [J, O] those of one option [J] each. Indexed by hand: take_along_axis takes ten times as long."""
    picked: Floats = values[np.arange(len(option)), option]
    return picked


def is_running(batch: Batch) -> Bools:
    """[J, O] the option that each job runs on."""
    same: Bools = np.arange(batch.price.shape[1])[None, :] == batch.running[:, None]
    return same


def runs_spot(batch: Batch) -> Bools:
    """[J] whether the job runs on spot."""
    return (batch.running >= 0) & (at_running(batch, (batch.market == SPOT).astype(np.float64)) > 0)


def least(costs: Floats) -> Ints:
    """[J] index of the smallest cost of each row [J, O], the first of equals; IDLE where all are infinite."""
    low = costs.min(axis=1)
    first = (costs <= low[:, None] + LEVEL).argmax(axis=1)
    return np.where(np.isfinite(low), first, IDLE)


def cheapest_spot(batch: Batch, penalty: Floats | None = None) -> Ints:
    """[J] the spot option with the lowest price for its speed, plus a penalty [J, O] in $/h."""
    rate = batch.price / batch.speed
    return least(np.where(spots(batch), rate if penalty is None else rate + penalty, np.inf))


def cost_to_finish(batch: Batch) -> Floats:
    """[J, O] dollars to bring the checkpoint there and do all that is left, were it never interrupted."""
    hours = (batch.left[:, None] / batch.speed + batch.changeover) / HOUR
    return np.where(is_running(batch), 0.0, batch.egress) + batch.price * hours


def cheapest_sure(batch: Batch) -> Ints:
    """[J] the on-demand or reserved option that finishes for least; IDLE where there is none."""
    return least(np.where(sure(batch), cost_to_finish(batch), np.inf))


def unvalued(batch: Batch, target: Ints) -> Choices:
    """The answer of a rule that follows no costs: where to be, looked at again after a grain."""
    nothing = np.full(batch.price.shape, np.nan)
    return Choices(
        target=target,
        cost=nothing,
        idle=nothing[:, 0],
        slack_price=nothing[:, 0],
        revisit=batch.now + batch.grain,
        net=np.zeros(len(batch.now), bool),
    )
