"""What running jobs teach: how long a pool takes to get going, how fast a model is there, what a checkpoint costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from dsched.scheduler.core import ledger
from dsched.scheduler.core.changeover import egress
from dsched.scheduler.core.draft import Draft, insert
from dsched.scheduler.core.holding import remembered
from dsched.scheduler.core.message import CheckpointSaved, StepsMeasured
from dsched.scheduler.core.snapshot import Attempt, Job, Node, PoolMemory
from dsched.scheduler.core.speed import pace
from dsched.scheduler.core.speed.posterior import Measured, learn
from dsched.scheduler.core.units import HOUR, Millis

SMOOTH: Final = 0.5  # weight of the newest checkpoint's stall: the next will be like the last few
DELAY_MAX: Final = 2 * HOUR  # wall: beyond that something else went wrong, and it is no delay of the pool


def first_step(draft: Draft, job: Job, attempt: Attempt) -> None:
    """The gang works, so its checkpoint was read; what passed since its machines were asked for is the pool's delay."""
    _egress(draft, job, attempt)
    if attempt.asked is None:
        return
    took = Millis(draft.now.wall - attempt.asked)
    if not 0 < took <= DELAY_MAX:
        return
    memory = draft.state.pools.get(attempt.pool) or PoolMemory(pool=attempt.pool)
    learned = replace(memory, delay=memory.delay.seen(took))
    draft.say("pool.delay", remembered(draft.state, learned), job=attempt.job, data={"ms": took})


def _egress(draft: Draft, job: Job, attempt: Attempt) -> None:
    """Book the move of the checkpoint, where its size was told and the route has a price."""
    node = draft.state.nodes.get(attempt.nodes[0])
    if node is None or not job.checkpoint_step or not job.checkpoint_bytes:
        return
    source, target = job.checkpoint_at, node.pool.place
    owed = egress(draft.policy.facts.egress, source, target, job.checkpoint_bytes)
    if owed > 0:
        gigabytes = job.checkpoint_bytes / 1e9
        ledger.book_egress(draft, node, job, owed, f"list price, {gigabytes:.3g} GB from {source}")
    if (
        source.partition("/")[0] != target.partition("/")[0]
    ):  # each cloud has its own store: it was carried into this one
        draft.job(draft.state.jobs[job.id], "carried", checkpoint_at=target)


def steps(draft: Draft, message: StepsMeasured) -> None:
    """Measured steps of a job that tells its model correct the model's speed on such a gang, for all its jobs."""
    state = draft.state
    job = state.jobs.get(message.job)
    attempt = state.attempt(job) if job else None
    model = job.spec.need.model if job else None
    if job is None or model is None or attempt is None or attempt.generation != message.generation:
        return
    offer, need = state.offers.get(attempt.pool), job.spec.need
    speed = _speed(job, message, state.scale)
    if offer is None or speed is None:
        return
    at = pace.pace(need, offer.shape, len(attempt.nodes), None)
    if at is None:
        return  # it runs on a gang of which we thought that it could not: the roofline has nothing to correct
    kind = pace.kind(need, offer.shape, len(attempt.nodes), at.fit.layout.words if at.fit else "")
    known = state.speeds.get(model.name)
    row = learn(known or Measured(model=model.name), kind, speed, message.reports)
    change = insert("speed", model.name, row)
    draft.say(
        "speed.measured",
        change if known is None else replace(change, new=False),
        job=job.id,
        data={"gpus": kind.gpus, "speed": speed},
    )


def _speed(job: Job, message: StepsMeasured, scale: float) -> float | None:
    """Tokens per market second of a known model, as the job told or by its batch; of another one steps per second."""
    model = job.spec.need.model
    assert model is not None, "the caller has looked"
    if message.step_ms is None:
        per_s = message.tokens_per_s if model.known else None
    elif model.known and message.tokens_per_s is None:
        per_s = model.batch * 1000.0 / message.step_ms if model.batch else None
    else:
        per_s = message.tokens_per_s if model.known else 1000.0 / message.step_ms
    return per_s / scale if per_s and per_s > 0 else None


def saved(job: Job, node: Node, message: CheckpointSaved) -> dict[str, Any]:
    """What a committed checkpoint changes in the job's row: where it lies, what it weighs, how long it stalled."""
    changed: dict[str, Any] = {"checkpoint_at": node.pool.place}
    if message.size > 0:
        changed["checkpoint_bytes"] = message.size
    if message.stall is not None:
        old = message.stall if job.write is None else job.write
        changed["write"] = Millis(max(1, round(SMOOTH * message.stall + (1 - SMOOTH) * old)))
    return changed
