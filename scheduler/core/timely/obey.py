"""Jobs with a deadline, placed, kept, moved and made to wait as their deadline policy decides.

It is asked when such a job needs a place and at its own revisit times, not at every tick: `place` for the first,
`revisit` for the second. What it wants becomes a placement, a wait with its reason, a move, or nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from typing import Final

from dsched.scheduler.core import lifecycle, taking
from dsched.scheduler.core.asking import ask
from dsched.scheduler.core.deadline.decide import decide
from dsched.scheduler.core.draft import Draft, insert
from dsched.scheduler.core.effect import WakeAt
from dsched.scheduler.core.gang import placement
from dsched.scheduler.core.hold import Hold, in_force, sunk
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.placement import Question
from dsched.scheduler.core.snapshot import After, Job, Waits, queue_class
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.timely import words
from dsched.scheduler.core.timely.judge import Judged, judge
from dsched.scheduler.core.timely.outlooks import ask_ahead
from dsched.scheduler.core.timely.rule import rule_for
from dsched.scheduler.core.units import HOUR, SECOND, Instant, Millis
from dsched.scheduler.core.work import timely

JUDGED: Final = 4  # waiting jobs asked about in one pass, each in some 5 ms: everybody else waits so long at most
REVISITS: Final = 4  # jobs looked at again in one pass, each in milliseconds; the others in the next
CONTENDERS: Final = 2 * JUDGED  # of those first in the queue, who are asked what a slot that is held for us is worth
SAID: Final = Millis(HOUR)  # market: a job that waits on and on says so again after this, with its new figures


# -- jobs that need a place -----------------------------------------------------------------------------------------


def place(draft: Draft, jobs: Sequence[Job]) -> list[Job]:
    """Decide for the jobs with a deadline; the others, in their order, are left to the planner.

    A pass is short: of those that wait for their time only the ones with news are asked about, JUDGED at a time.
    """
    left: list[Job] = []
    question: Question | None = None
    mine = {job.id: job for job in jobs if timely(job) and not (job.after is After.MOVE and job.places)}
    judging = 0
    for job in _dearest_slack_first(draft, jobs, mine):
        if job.id not in mine:
            left.append(job)
            continue
        if job.state is JobState.QUEUED:
            if _patient(draft, job):
                continue
            judging += 1
            if judging > JUDGED:
                draft.state.dirty = True
                continue
        question = question or ask(draft.state, list(mine.values()), draft.policy, draft.now)
        judged = judge(draft.state, job, question, draft.policy, draft.now)
        if judged is None:
            left.append(job)
        elif _carry_out(draft, job, judged, question):
            question = None  # it took something: the next one sees what is left
    return left


def _dearest_slack_first(draft: Draft, jobs: Sequence[Job], mine: Mapping[str, Job]) -> Sequence[Job]:
    """The queue; but while slots are free that are paid for already, the first CONTENDERS in it go by their bids.

    A slot costs nobody anything more, so in the queue's order it would go to a job that has all the time to wait for
    cheap spot. The bid is the price of an hour of slack for the whole gang.
    """
    if not in_force(draft.policy.held, draft.now.market):
        return jobs
    fit = (job for job in jobs if job.id in mine and job.state is JobState.QUEUED and not _patient(draft, job))
    waiting = list(islice(fit, CONTENDERS))
    question = ask(draft.state, waiting, draft.policy, draft.now) if len(waiting) > 1 else None
    if question is None or not any(isinstance(one.quota, Hold) and one.left > 0 for one in question.quotas):
        return jobs
    bids = {job.id: _bid(draft, job, question) for job in waiting}
    ranked = iter(sorted(waiting, key=lambda job: -bids[job.id]))  # of equals the first in the queue
    return [next(ranked) if job.id in bids else job for job in jobs]


def _bid(draft: Draft, job: Job, question: Question) -> float:
    """Dollars per hour of slack; 0 for whom no slot fits, or whose policy does not price its slack."""
    judged = judge(draft.state, job, question, draft.policy, draft.now)
    offers = (question.offers[choice.pool.id] for choice in judged.look.choices.values()) if judged else ()
    if judged is None or not any(offer.quote is not None and sunk(offer.quote.price) for offer in offers):
        return 0.0
    price = judged.priced(draft.state.scale).decision.why.slack_price
    return price if math.isfinite(price) else 0.0


def _patient(draft: Draft, job: Job) -> bool:
    """Whether it goes on waiting unasked: its time has not come, and no pool that it waits for has news."""
    state = draft.state
    known = state.waits.get(job.id)
    if known is None or job.id not in state.revisits:
        return False
    if any(state.news.get(pool, 0) > known.heard for pool in known.pools):
        return False
    state.block(queue_class(job), job.reason)
    return True


def _carry_out(draft: Draft, job: Job, judged: Judged, question: Question) -> bool:
    """Whether anything was taken."""
    _look_again(draft, job, judged)
    target = judged.look.choices.get(judged.decision.target or "")
    if target is not None and (judged.moves or job.state is not JobState.RUNNING):
        judged = judged.priced(draft.state.scale)
        told = judged.report(job, question, draft.now)
        idle = question.idle.get(target.pool.id, ())
        chosen = placement(job, target.pool, target.value, idle, question.scale)
        taking.take(draft, job, chosen, told, judged.more())
        return True
    if job.state is JobState.QUEUED:
        _wait(draft, job, judged, question)
    elif job.state is JobState.RUNNING and job.after is After.MOVE:
        draft.job(job, "stayed", after=After.NOTHING, places=(), why=f"stays where it is: {_why(judged)}")
    return False


def _wait(draft: Draft, job: Job, judged: Judged, question: Question) -> None:
    """It waits though something could be had. Said when it begins, and now and then."""
    pools = _one(frozenset(choice.pool.id for choice in judged.look.choices.values()))
    draft.learn(draft.state.waits, job.id, Waits(draft.state.newest, pools))
    said = draft.state.said.get(job.id)
    if said is not None and draft.now.market - said < SAID and job.reason.startswith(words.WAITS):
        draft.state.block(queue_class(job), job.reason)
        return
    judged = judged.priced(draft.state.scale)
    text = words.waits(judged.observation, judged.decision)
    draft.state.block(queue_class(job), text)
    draft.learn(draft.state.said, job.id, draft.now.market)
    decision = taking.record(draft, job, judged.report(job, question, draft.now), judged.more())
    draft.job(job, "waits", None, insert("decision", decision.id, decision), why=text, decision=decision.id)


@lru_cache(maxsize=1024)
def _one(pools: frozenset[str]) -> frozenset[str]:
    """The same set for all that wait for the same pools: ten thousand jobs times a thousand pools are gigabytes."""
    return pools


def _why(judged: Judged) -> str:
    return words.chooses(judged.observation, judged.decision)


def _look_again(draft: Draft, job: Job, judged: Judged) -> None:
    """At the policy's revisit time, in market time and as a wall instant to wake at; with an outlook by then."""
    now, scale = draft.now, draft.state.scale
    ask_ahead(draft, job, wanted=judged.wanted, used=judged.used)
    latest = judged.observation.now + judged.observation.grain  # what the safety net has reckoned with
    at = Instant(max(now.market + 1, round(min(latest, judged.decision.revisit_at) * SECOND)))
    draft.learn(draft.state.revisits, job.id, at)
    draft.do(WakeAt(at=Instant(now.wall + max(1, math.ceil((at - now.market) / scale)))))


# -- jobs that have one ---------------------------------------------------------------------------------------------


def revisit(draft: Draft) -> None:
    """Look again at the jobs that are due: they stay, move, or stop to wait."""
    state = draft.state
    names = list(state.due)[:REVISITS]
    jobs = [job for name in names if (job := state.jobs.get(name)) is not None and timely(job)]
    question: Question | None = None
    for name in names:
        draft.learn(state.due, name, None)
    for job in jobs:
        question = question or ask(state, jobs, draft.policy, draft.now)  # sums up all nodes: once, if all stay
        looks = _revisit if job.after is After.NOTHING else _moving
        if looks(draft, job, question):
            question = None
    state.dirty = state.dirty or bool(state.due)


def _revisit(draft: Draft, job: Job, question: Question) -> bool:
    """Whether anything changed but the time of the next look."""
    running = job.state is JobState.RUNNING and not job.next_nodes
    booting = job.state is JobState.STARTING and bool(job.next_nodes) and lifecycle.quiet(draft, job)
    if not (running or booting or job.state is JobState.STARTING):
        return False
    judged = judge(draft.state, job, question, draft.policy, draft.now)
    if judged is None:
        return False
    if not judged.moves or not (running or (booting and judged.decision.why.net)):
        _look_again(draft, job, judged)
        return False
    if booting:
        lifecycle.unplace(draft, job, f"given up before it was up: {_why(judged)}")
        _carry_out(draft, draft.state.jobs[job.id], judged, ask(draft.state, [job], draft.policy, draft.now))
    elif judged.decision.target is None:
        _look_again(draft, job, judged)
        lifecycle.drain(draft, job, After.MOVE, words.waits(judged.observation, judged.decision))
    else:
        job = draft.job(job, "migrating", after=After.MOVE, why=f"moves: {_why(judged)}")
        _carry_out(draft, job, judged, question)
    return True


def _moving(draft: Draft, job: Job, question: Question) -> bool:
    """A chosen move waits for its spot machines, perhaps for ever: the net alone may end it. Whether it did.

    Sure machines are let come, however late: giving them up for others would only begin anew.
    """
    bound = [node for name in job.next_nodes if (node := draft.state.nodes.get(name)) is not None]
    asked = job.state is JobState.RUNNING and job.after is After.MOVE and not job.places
    if not asked or not bound or bound[0].pool.market is not Market.SPOT:
        return False
    judged = judge(draft.state, job, question, draft.policy, draft.now)
    here = judged.observation.job.running if judged is not None else None
    if judged is None or here is None:
        return False
    market = {option.id: option.market for option in judged.observation.options}
    there = f"{bound[0].pool.id}*{len(bound)}"
    # On sure machines no slack is lost by waiting for the others: there only staying is in question.
    going = there if there in market and market[here] is Market.SPOT else here
    terms = replace(judged.terms, going=going)
    decision = decide(rule_for(judged.observation, draft.policy, terms, question.scale), judged.observation)
    if not decision.why.net or decision.target is None:
        return False
    judged = replace(judged, decision=decision, terms=terms)
    lifecycle.unplace(draft, job, "")
    job = draft.job(draft.state.jobs[job.id], "migrating", after=After.MOVE, why=f"moves: {_why(judged)}")
    _carry_out(draft, job, judged, ask(draft.state, [job], draft.policy, draft.now))
    return True
