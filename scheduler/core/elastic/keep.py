"""Machines that a job has already and may keep when its gang changes: survivors of a loss, and the rest of a resize."""

from __future__ import annotations

from dataclasses import replace

from dsched.scheduler.core import feasible
from dsched.scheduler.core.placement import Placement, Question
from dsched.scheduler.core.snapshot import After, Job, Node, State
from dsched.scheduler.core.speed import fit
from dsched.scheduler.core.state import JobState, NodeState


def own(state: State, job: Job) -> tuple[Node, ...]:
    """Its machines that stay: up, not noticed, not on their way out."""
    nodes = (state.nodes.get(name) for name in job.nodes)
    return tuple(n for n in nodes if n is not None and n.job == job.id and _stays(n))


def _stays(node: Node) -> bool:
    return node.state is NodeState.READY and node.notice is None and not node.leaving


def with_own(question: Question, state: State, job: Job) -> Question:
    """The question of this job alone, with its own machines among those that stand idle: they need not be bought."""
    nodes = own(state, job)
    if not nodes:
        return question
    pool = nodes[0].pool.id
    mine = tuple(node.id for node in nodes)
    idle = tuple(name for name in question.idle.get(pool, ()) if name not in mine)
    return replace(question, idle={**question.idle, pool: (*mine, *idle)})


def kept(state: State, job: Job, chosen: Placement) -> Placement:
    """The same placement with the job's own machines before others.

    Not for a move of the whole gang within its pool: whoever wants that wants other machines.
    """
    mine = tuple(node.id for node in own(state, job) if node.pool == chosen.pool)
    same = len(mine) == len(job.nodes) == chosen.nodes
    if not mine or same or job.state not in (JobState.RUNNING, JobState.DRAINING):
        return chosen
    others = tuple(name for name in chosen.reuse if name not in mine)
    reuse = (*mine, *others)[: chosen.nodes]
    return chosen._replace(reuse=reuse, buy=chosen.nodes - len(reuse))


def survivors(state: State, job: Job, nodes_max: int) -> tuple[str, ...]:
    """The machines on which it can go on after a loss, within its elastic range; () when it cannot.

    The largest feasible gang among them: what a layout leaves over is given back.
    """
    need, mine = job.spec.need, own(state, job)
    if not mine or need.gpus_min >= need.gpus_max or len({node.pool.id for node in mine}) > 1:
        return ()
    offer = state.offers.get(mine[0].pool.id)
    if offer is None:
        return ()
    sizes = feasible.gang_sizes(need, offer.shape, nodes_max)
    if not isinstance(sizes, range) or len(mine) < sizes[0]:
        return ()
    among = range(sizes[0], min(len(mine), sizes[-1]) + 1)
    fitting = fit.sizes(need.model, offer.shape, among) if need.model is not None else among
    return tuple(node.id for node in mine[: fitting[-1]]) if fitting else ()


def shrinks(state: State, job: Job, nodes_max: int) -> bool:
    """Whether a job that is losing a machine goes on with the rest: then nothing is looked for in its stead now."""
    return job.state is JobState.DRAINING and job.after is After.NOTHING and bool(survivors(state, job, nodes_max))
