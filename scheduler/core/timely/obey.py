"""Jobs with a deadline, placed, kept, moved and made to wait as their deadline policy decides.

It is asked when such a job needs a place and at its own revisit times, not at every tick: `place` for the first,
`revisit` for the second. What it wants becomes a placement, a wait with its reason, a move, or nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

from dsched.scheduler.core import lifecycle, taking
from dsched.scheduler.core.asking import ask
from dsched.scheduler.core.deadline.decide import decide, slack_price
from dsched.scheduler.core.deadline.view import Decision, Observation
from dsched.scheduler.core.draft import Draft, insert
from dsched.scheduler.core.effect import Foresee, WakeAt
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.message import MarketForeseen
from dsched.scheduler.core.migrate import held
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.report import Report
from dsched.scheduler.core.snapshot import ACTIVE, After, Job, State, Waits, queue_class
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.timely import words
from dsched.scheduler.core.timely.account import account, placement
from dsched.scheduler.core.timely.foresight import Foreseen, Request, request
from dsched.scheduler.core.timely.look import Look, look, timely
from dsched.scheduler.core.timely.rule import FORESIGHTED, Terms, net, rule
from dsched.scheduler.core.units import HOUR, SECOND, Instant, Millis, Moment

OUTLOOKS: Final = 16  # classes whose outlook is kept, each of some 10 MB
ASK_AGAIN: Final = Millis(30 * SECOND)  # wall: between the answer that there is none and the next question
UNANSWERED: Final = Millis(OUTLOOKS * 60 * SECOND)  # wall: a lone worker with a full queue takes no longer
JUDGED: Final = 4  # waiting jobs asked about in one pass, each in some 5 ms: everybody else waits so long at most
REVISITS: Final = 4  # jobs looked at again in one pass, each in milliseconds; the others in the next
SAID: Final = Millis(HOUR)  # market: a job that waits on and on says so again after this, with its new figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A decision, with what it was made from."""

    look: Look
    observation: Observation  # the look's, with its outlook
    decision: Decision
    terms: Terms
    policy: Policy
    wanted: Request | None = None  # an outlook that should be made: there is none, or it is old
    used: Request | None = None  # the outlook that was used

    @property
    def moves(self) -> bool:
        return self.decision.target != self.observation.job.running

    def more(self) -> dict[str, Any]:
        """What is stored beside the report."""
        outlook = None if self.used is None else self.used.to_wire()
        rule = self.policy.deadline_policy
        return {"deadline": words.to_wire(self.observation, self.decision, self.terms, rule, outlook)}

    def priced(self, scale: float) -> Judged:
        """With the price of its slack, which takes another look: for those who tell it, not for every decision."""
        judge = rule(self.policy, self.terms, scale)
        price = slack_price(judge, self.observation, self.decision.why)
        return replace(self, decision=replace(self.decision, why=replace(self.decision.why, slack_price=price)))

    def report(self, job: Job, question: Question, now: Moment) -> Report:
        return account(job, replace(self.look, observation=self.observation), self.decision, question, self.policy, now)


def judge(state: State, job: Job, question: Question, policy: Policy, now: Moment) -> Judged | None:
    """Ask the policy about one job. None: nothing can be had for it within its limits; the planner says why."""
    seen = look(state, job, question, policy, now)
    if seen is None:
        return None
    ahead, wanted = _foreseen(state, seen, policy)
    soon = wanted is not None and wanted.base not in state.unforeseen
    observation = replace(seen.observation, outlook=ahead and ahead.outlook)
    terms = Terms(rework=seen.uncommitted, hold=held(state, job, policy, now), foreseen=ahead is not None, soon=soon)
    return Judged(
        look=seen,
        observation=observation,
        decision=decide(rule(policy, terms, question.scale), observation),
        terms=terms,
        policy=policy,
        wanted=wanted,
        used=ahead.request if ahead else None,
    )


def _foreseen(state: State, seen: Look, policy: Policy) -> tuple[Foreseen | None, Request | None]:
    """What was foreseen for this job's class, and what should be: an old outlook serves until the new one is made."""
    if policy.deadline_policy not in FORESIGHTED:
        return None, None
    wanted = request(seen.observation, seen.uncommitted)
    known: Foreseen | None = state.outlooks.get(wanted.base) if wanted else None
    if wanted is None or known is None:
        return None, wanted
    wanted = known.with_spans(wanted)
    if not known.covers(wanted):
        return None, wanted
    return known, wanted if known.stale <= seen.observation.now else None


# -- jobs that need a place -----------------------------------------------------------------------------------------


def place(draft: Draft, jobs: Sequence[Job]) -> list[Job]:
    """Decide for the jobs with a deadline; the others, in their order, are left to the planner.

    A pass is short: of those that wait for their time only the ones with news are asked about, JUDGED at a time.
    """
    left: list[Job] = []
    question: Question | None = None
    mine = {job.id: job for job in jobs if timely(job) and not (job.after is After.MOVE and job.places)}
    judging = 0
    for job in jobs:
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
        taking.take(draft, job, placement(job, target, question), told, judged.more())
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
    _ask_ahead(draft, job, judged)
    latest = judged.observation.now + judged.observation.grain  # what the safety net has reckoned with
    at = Instant(max(now.market + 1, round(min(latest, judged.decision.revisit_at) * SECOND)))
    draft.learn(draft.state.revisits, job.id, at)
    draft.do(WakeAt(at=Instant(now.wall + max(1, math.ceil((at - now.market) / scale)))))


def _ask_ahead(draft: Draft, job: Job, judged: Judged) -> None:
    wanted, state, now = judged.wanted, draft.state, draft.now
    draft.learn(state.blind, job.id, wanted.base if wanted is not None and judged.used is None else None)
    if judged.used is not None:
        _used(draft, judged.used.base)
    if wanted is None or now.wall < state.foreseeing.get(wanted.base, now.wall):
        return
    draft.learn(state.foreseeing, wanted.base, Instant(now.wall + UNANSWERED))
    draft.do(Foresee(request=wanted))


def _used(draft: Draft, base: str) -> None:
    """The table is in the order of last use: the first is dropped first."""
    kept = draft.state.outlooks
    known: Foreseen | None = kept.get(base)
    if known is not None and next(reversed(kept)) != base:
        draft.learn(kept, base, None)
        draft.learn(kept, base, known)


def foreseen(draft: Draft, message: MarketForeseen) -> None:
    """An outlook is made, or none can be: who decided without one looks again. OUTLOOKS are kept, those used last."""
    state, base = draft.state, message.request.base
    none = message.foreseen is None
    draft.learn(state.foreseeing, base, Instant(draft.now.wall + ASK_AGAIN) if none else None)
    draft.learn(state.unforeseen, base, True if none else None)
    if message.foreseen is not None:
        _keep(draft, base, message.foreseen)
    for name in [name for name, wanted in state.blind.items() if wanted == base]:
        draft.learn(state.blind, name, None)
        if name in state.revisits:
            draft.learn(state.revisits, name, draft.now.market)
    due(draft)


def _keep(draft: Draft, base: str, made: Foreseen) -> None:
    state = draft.state
    for old in list(state.outlooks)[: max(0, len(state.outlooks) - OUTLOOKS + 1)]:
        if old != base:
            draft.learn(state.outlooks, old, None)
    draft.learn(state.outlooks, base, None)
    draft.learn(state.outlooks, base, made)


# -- jobs that have one ---------------------------------------------------------------------------------------------


def due(draft: Draft) -> None:
    """Mark the jobs whose revisit time has come: the next pass of the planner looks at them."""
    state, now = draft.state, draft.now.market
    for name in [name for name, at in state.revisits.items() if at <= now]:
        job = state.jobs.get(name)
        active = job is not None and job.state in ACTIVE
        if job is None or not timely(job):
            if not active:  # else its turn is migrate.py's
                draft.learn(state.revisits, name, None)
            continue
        # Whoever cannot be asked now, because it moves or leaves, must be asked later all the same.
        draft.learn(state.revisits, name, Instant(now + draft.policy.revisit) if active else None)
        if job.state is JobState.QUEUED:
            draft.learn(state.waits, name, None)
            state.unblock(queue_class(job))
            state.dirty = True
        elif job.state in (JobState.RUNNING, JobState.STARTING):
            draft.learn(state.due, name, now)
            state.dirty = True


def all_due(draft: Draft) -> None:
    """After a restart nobody knows when who was to be looked at: all of them now."""
    for name, job in draft.state.jobs.items():
        if timely(job) and (job.state is JobState.QUEUED or job.state in ACTIVE):
            draft.learn(draft.state.revisits, name, draft.now.market)


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
    going = list(market).index(there if there in market and market[here] is Market.SPOT else here)
    decision = decide(net(draft.policy, going, question.scale), judged.observation)
    if not decision.why.net or decision.target is None:
        return False
    judged = replace(judged, decision=decision)
    lifecycle.unplace(draft, job, "")
    job = draft.job(draft.state.jobs[job.id], "migrating", after=After.MOVE, why=f"moves: {_why(judged)}")
    _carry_out(draft, job, judged, ask(draft.state, [job], draft.policy, draft.now))
    return True


def told(judged: Judged | None) -> Mapping[str, Any]:
    """For a dry run."""
    return {} if judged is None else judged.more()
