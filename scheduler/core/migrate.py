"""Move running jobs without a deadline to cheaper or safer capacity, when that pays for itself and a margin.

What staying costs and what another place costs are expected costs to the end of the work: interruptions, rework and
restarts are in both, boot, restore and egress in the other one alone. Where nobody knows the work that is left, a job
is expected to run on for as long as it has run already. The job works on until its new machines are up, then drains
with a checkpoint: no step is lost. A move must save `move_margin` of what staying costs; no job is moved within
`move_cooldown` of its last start, nor more often than `moves_free` and one more per `moves_each`, so prices that swing
do not make jobs swing. Jobs with a deadline and known work are their deadline policy's (timely/obey.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Final

from dsched.scheduler.core import taking
from dsched.scheduler.core.asking import ask
from dsched.scheduler.core.draft import Draft
from dsched.scheduler.core.elastic.account import account
from dsched.scheduler.core.elastic.keep import own, with_own
from dsched.scheduler.core.elastic.options import Choice, options, paid
from dsched.scheduler.core.gang import placement
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.snapshot import After, Job, State
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import HOUR, MICRO, SECOND, Instant, Moment
from dsched.scheduler.core.work import timely

LOOKS_MAX: Final = 4  # jobs looked at in one tick, each in some milliseconds; the rest waits for the next
AHEAD_MIN: Final = 1.0  # hours that a job of unknown length is expected to run on, at least
AHEAD_MAX: Final = 24.0  # and at most: nobody bets on more


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A better place, with both expected costs in dollars."""

    choice: Choice
    stay: float
    go: float

    @property
    def why(self) -> str:
        return f"moves to {self.choice.pool.id}: expected to cost ${self.go:.2f} to the end, here ${self.stay:.2f}"


def review(draft: Draft) -> None:
    """Look at running jobs whose turn it is, and move those for which it pays."""
    state, now = draft.state, draft.now.market
    due = [name for name in state.active if _mine(job := state.jobs[name]) and now >= _turn(state, job, draft.policy)]
    first = nsmallest(LOOKS_MAX, due, key=lambda name: (_turn(state, state.jobs[name], draft.policy), name))
    jobs = [state.jobs[name] for name in first]
    question: Question | None = None
    for job in jobs:
        question = question or ask(state, jobs, draft.policy, draft.now)  # it sums up all nodes: once, if nobody moves
        draft.learn(state.revisits, job.id, Instant(now + draft.policy.revisit))
        if _review(draft, job, question):
            question = None


def _mine(job: Job) -> bool:
    idle = job.state is JobState.RUNNING and job.after is After.NOTHING and not job.next_nodes
    return idle and not timely(job)


def _turn(state: State, job: Job, policy: Policy) -> Instant:
    return state.revisits.get(job.id, Instant((job.started or 0) + policy.revisit))


def held(state: State, job: Job, policy: Policy, now: Moment) -> bool:
    """Whether it may not be moved for money now: it began here lately, or has used up its moves."""
    attempt = state.attempt(job)
    if job.state is not JobState.RUNNING or attempt is None:
        return job.state is JobState.STARTING
    ran = now.market - (job.started if job.started is not None else now.market)
    earned = policy.moves_free + ran // max(1, policy.moves_each)
    return now.market - attempt.decided.market < policy.move_cooldown or job.moves - job.interruptions >= earned


def _review(draft: Draft, job: Job, question: Question) -> bool:
    """Whether it moves."""
    state, policy, now = draft.state, draft.policy, draft.now
    nodes = own(state, job)
    if len(nodes) < len(job.nodes) or not nodes or held(state, job, policy, now):
        return False
    question = with_own(question, state, job)
    found = [c for c in options(job, question, policy, now) if _may(draft, job, question, c)]
    move = better(found, f"{nodes[0].pool.id}*{len(nodes)}", _ran(job, now), policy.move_margin)
    if move is None or move.choice.pool == nodes[0].pool:
        return False
    there = move.choice.pool
    chosen = placement(job, there, move.choice.value, question.idle.get(there.id, ()), question.scale)
    told = account(job, move.choice, move.why, question, policy, now, reuse=len(chosen.reuse))
    job = draft.job(job, "migrating", after=After.MOVE, why=move.why)
    taking.take(draft, job, chosen, told)
    return True


def better(found: Sequence[Choice], here: str, ran: float, margin: float) -> Move | None:
    """The option that is expected to cost least, if that saves the margin. `ran`: hours; `here`: the running option."""
    stays = next((choice for choice in found if choice.id == here), None)
    others = [choice for choice in found if choice.id != here and choice.up is not False]
    if stays is None or not others:
        return None
    stay = cost(stays, ran, moves=False)
    best = min(others, key=lambda choice: (cost(choice, ran, moves=True), choice.id))
    go = cost(best, ran, moves=True)
    return Move(choice=best, stay=stay, go=go) if go < stay * (1.0 - margin) else None


def cost(choice: Choice, ran: float, *, moves: bool) -> float:
    """Expected dollars to the end of the work. Whoever stays pays for no boot, no restore and no egress."""
    value = choice.value
    if value.expected is not None and value.move is not None:
        return (value.expected - (0 if moves else value.move + value.egress)) / MICRO
    hours = min(AHEAD_MAX, max(AHEAD_MIN, ran))
    work = value.per_useful_hour / MICRO * hours
    return work + (choice.price * choice.changeover * SECOND / HOUR + choice.egress if moves else 0.0)


def _ran(job: Job, now: Moment) -> float:
    return (now.market - (job.started if job.started is not None else now.market)) / HOUR


def _may(draft: Draft, job: Job, question: Question, choice: Choice) -> bool:
    """Within its limits in money, and no pool that has just failed it."""
    if choice.pool.id in {node.pool.id for node in own(draft.state, job)}:
        return True
    return choice.pool.id not in job.avoid and paid(job, choice, question, draft.policy)
