"""How far a job has come: by what it told last, between two checkpoints too."""

from __future__ import annotations

from dsched.scheduler.core import rank
from dsched.scheduler.core.placement import Question
from dsched.scheduler.core.snapshot import Job, State
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import SECOND, Moment


def seconds_left(state: State, job: Job, hours: float, now: Moment, speed: float = 1.0) -> float:
    """Seconds of work left on the reference gang, by what the job told last; `hours`: after its last checkpoint.

    `speed`: of the gang that it runs on.
    """
    committed, total = hours * 3600.0, (job.spec.duration or 0) / SECOND
    progress, attempt = state.progress.get(job.id), state.attempt(job)
    if job.state is not JobState.RUNNING or attempt is None:
        return committed
    steps = job.spec.steps or (progress.steps if progress else None)
    if steps and progress is not None:
        return min(committed, max(0.0, total * (1.0 - min(progress.step, steps) / steps)))
    if steps or attempt.running is None:
        return committed
    ran = (now.market - attempt.running.market) / SECOND
    return max(0.0, committed - ran * speed)  # it tells no steps: taken at its word


def speed_here(state: State, job: Job) -> float:
    """Of the gang that a job of no known model runs on, against the reference; 1 where it is not known."""
    nodes = [node for name in job.nodes if (node := state.nodes.get(name)) is not None]
    offer = state.offers.get(nodes[0].pool.id) if nodes else None
    if offer is None or job.spec.need.model is not None or job.spec.need.cpu_only:
        return 1.0
    reference = rank.reference(job.spec.need, Question(jobs=(), offers=state.offers))
    return len(nodes) * rank.speed(offer.shape, job.spec.need) / reference.speed
