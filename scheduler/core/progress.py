"""How far a job has come: by what it told last, between two checkpoints too."""

from __future__ import annotations

from typing import Final, NamedTuple

from dsched.scheduler.core import rank
from dsched.scheduler.core.placement import Question
from dsched.scheduler.core.snapshot import Job, State
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import SECOND, Moment

LEAST: Final = 60.0  # s: what runs is not done
SILENT: Final = 600.0  # s of work: a job that names its steps has told the first by then


class Standing(NamedTuple):
    """Seconds of work on the reference gang."""

    left: float  # by what the job told last, or by how long it has run; never 0 while it runs
    proved: bool = True  # whether it tells what it does
    unproved: float = 0.0  # what else counts as done, and nobody knows what of it a next run would find


def standing(state: State, job: Job, hours: float, now: Moment, speed: float = 1.0) -> Standing:
    """`hours`: left after its last checkpoint; `speed`: of the gang that it runs on.

    A job that tells no steps is taken at its word: what it has run counts, until it has outlived its estimate. Then it
    is expected to need as long again as it is late.
    """
    saved, total = hours * 3600.0, (job.spec.duration or 0) / SECOND
    progress, attempt = state.progress.get(job.id), state.attempt(job)
    if job.state is not JobState.RUNNING or attempt is None:
        return Standing(saved)
    ran = 0.0 if attempt.running is None else (now.market - attempt.running.market) / SECOND * speed
    steps = job.spec.steps or (progress.steps if progress else None)
    if not steps:
        return Standing(max(LEAST, abs(saved - ran)), False, ran)
    if progress is None:
        return Standing(max(LEAST, saved), ran < SILENT)
    return Standing(max(LEAST, min(saved, total * (1.0 - min(progress.step, steps) / steps))))


def speed_here(state: State, job: Job) -> float:
    """Of the gang that a job of no known model runs on, against the reference; 1 where it is not known."""
    nodes = [node for name in job.nodes if (node := state.nodes.get(name)) is not None]
    offer = state.offers.get(nodes[0].pool.id) if nodes else None
    if offer is None or job.spec.need.model is not None or job.spec.need.cpu_only:
        return 1.0
    reference = rank.reference(job.spec.need, Question(jobs=(), offers=state.offers))
    return len(nodes) * rank.speed(offer.shape, job.spec.need) / reference.speed
