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
from dsched.scheduler.core.turns import works
from dsched.scheduler.core.units import HOUR, MICRO, SECOND, Instant, Moment
from dsched.scheduler.core.work import timely

JUDGED_MAX: Final = 2_000  # offers judged in one tick, each in some 10 us: everybody else waits so long
LOOKS_MIN: Final = 4  # jobs looked at in one tick, however many offers there are; the rest waits for the next
MOVES_FOR: Final = 3  # looks: what a move takes besides, for its reasons and a new view of all machines
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
    due = (
        (at, name)
        for name, at in state.revisits.items()
        if at <= now and name in state.active and works(job := state.jobs[name]) and not timely(job)
    )
    looks = max(LOOKS_MIN, JUDGED_MAX // max(1, len(state.offers)))
    jobs = [state.jobs[name] for _, name in nsmallest(looks, due)]
    question: Question | None = None
    for job in jobs:
        if looks <= 0:
            break
        question = question or ask(state, jobs, draft.policy, draft.now)  # it sums up all nodes: once, if nobody moves
        draft.learn(state.revisits, job.id, Instant(now + draft.policy.revisit))
        looks -= 1
        if _review(draft, job, question):
            question = None
            looks -= MOVES_FOR


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
    pool, here = nodes[0].pool, f"{nodes[0].pool.id}*{len(nodes)}"
    found = [  # its own pool in another size is elastic/review.py's
        choice
        for choice in options(job, question, policy, now, open_only=True)
        if choice.id == here
        or (choice.pool != pool and choice.pool.id not in job.avoid and paid(job, choice, question, policy))
    ]
    move = better(found, here, _ran(job, now), policy.move_margin)
    if move is None:
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
    others = [choice for choice in found if choice.id != here]
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
