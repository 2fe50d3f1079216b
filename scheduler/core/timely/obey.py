"""Jobs with a deadline, placed, kept, moved and made to wait as their deadline policy decides.

It is asked when such a job needs a place and at its own revisit times, not at every tick: `place` for the first,
`revisit` for the second. What it wants becomes a placement, a wait with its reason, a move, or nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from dsched.scheduler.core import lifecycle, taking
from dsched.scheduler.core.asking import ask
from dsched.scheduler.core.deadline.view import Decision, Observation
from dsched.scheduler.core.draft import Draft, insert
from dsched.scheduler.core.message import WakeAt
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.report import Report
from dsched.scheduler.core.snapshot import After, Job, State, queue_class
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.timely import words
from dsched.scheduler.core.timely.account import account, placement
from dsched.scheduler.core.timely.look import Look, look, timely
from dsched.scheduler.core.timely.rule import Terms, rule
from dsched.scheduler.core.timely.single import decide
from dsched.scheduler.core.units import HOUR, SECOND, Instant, Millis, Moment

REVISITS: Final = 16  # jobs looked at again in one pass, each in milliseconds; the others in the next
SAID: Final = Millis(HOUR)  # market: a job that waits on and on says so again after this, with its new figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A decision, with what it was made from."""

    look: Look
    observation: Observation  # the look's, with its outlook
    decision: Decision
    terms: Terms
    policy: Policy

    @property
    def moves(self) -> bool:
        return self.decision.target != self.observation.job.running

    def more(self) -> dict[str, Any]:
        """What is stored beside the report."""
        outlook = getattr(self.observation.outlook, "name", "")
        return {
            "deadline": words.to_wire(self.observation, self.decision, self.terms, self.policy.deadline_policy, outlook)
        }

    def report(self, job: Job, question: Question, now: Moment) -> Report:
        return account(job, replace(self.look, observation=self.observation), self.decision, question, self.policy, now)


def judge(state: State, job: Job, question: Question, policy: Policy, now: Moment) -> Judged | None:
    """Ask the policy about one job. None: nothing can be had for it within its limits; the planner says why."""
    seen = look(state, job, question, policy, now)
    if seen is None:
        return None
    terms = Terms(rework=seen.uncommitted, hold=_held(state, job, policy, now), foreseen=False)
    decision = decide(rule(policy, terms, question.scale), seen.observation)
    return Judged(look=seen, observation=seen.observation, decision=decision, terms=terms, policy=policy)


def _held(state: State, job: Job, policy: Policy, now: Moment) -> bool:
    """Whether only the safety net may move it: it has moved lately, or has used up its moves."""
    attempt = state.attempt(job)
    if job.state is not JobState.RUNNING or attempt is None:
        return job.state is JobState.STARTING
    ran = now.market - (job.started if job.started is not None else now.market)
    earned = policy.moves_free + ran // max(1, policy.moves_each)
    return now.market - attempt.decided.market < policy.move_cooldown or job.moves - job.interruptions >= earned


# -- jobs that need a place -----------------------------------------------------------------------------------------


def place(draft: Draft, jobs: Sequence[Job]) -> list[Job]:
    """Decide for the jobs with a deadline; the others, in their order, are left to the planner."""
    left: list[Job] = []
    question: Question | None = None
    mine = {job.id: job for job in jobs if timely(job) and not (job.after is After.MOVE and job.places)}
    for job in jobs:
        if job.id not in mine:
            left.append(job)
            continue
        question = question or ask(draft.state, list(mine.values()), draft.now)
        judged = judge(draft.state, job, question, draft.policy, draft.now)
        if judged is None:
            left.append(job)
        elif _carry_out(draft, job, judged, question):
            question = None  # it took something: the next one sees what is left
    return left


def _carry_out(draft: Draft, job: Job, judged: Judged, question: Question) -> bool:
    """Whether anything was taken."""
    _look_again(draft, job, judged.decision)
    target = judged.look.choices.get(judged.decision.target or "")
    if target is not None and (judged.moves or job.state is not JobState.RUNNING):
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
    text = words.waits(judged.observation, judged.decision)
    draft.state.block(queue_class(job), text)
    said = draft.state.said.get(job.id)
    if said is not None and draft.now.market - said < SAID and job.reason.startswith(text[:10]):
        return
    draft.learn(draft.state.said, job.id, draft.now.market)
    decision = taking.record(draft, job, judged.report(job, question, draft.now), judged.more())
    draft.job(job, "waits", None, insert("decision", decision.id, decision), why=text, decision=decision.id)


def _why(judged: Judged) -> str:
    return words.chooses(judged.observation, judged.decision)


def _look_again(draft: Draft, job: Job, decision: Decision) -> None:
    """At the policy's revisit time, in market time and as a wall instant to wake at."""
    now, scale = draft.now, draft.state.scale
    at = Instant(max(now.market + 1, round(decision.revisit_at * SECOND)))
    draft.learn(draft.state.revisits, job.id, at)
    draft.do(WakeAt(at=Instant(now.wall + max(1, math.ceil((at - now.market) / scale)))))


# -- jobs that have one ---------------------------------------------------------------------------------------------


def due(draft: Draft) -> None:
    """Mark the jobs whose revisit time has come: the next pass of the planner looks at them."""
    state, now = draft.state, draft.now.market
    for name in [name for name, at in state.revisits.items() if at <= now]:
        draft.learn(state.revisits, name, None)
        job = state.jobs.get(name)
        if job is None:
            continue
        if job.state is JobState.QUEUED:
            state.unblock(queue_class(job))
            state.dirty = True
        elif job.state in (JobState.RUNNING, JobState.STARTING):
            draft.learn(state.due, name, now)
            state.dirty = True


def all_due(draft: Draft) -> None:
    """After a restart nobody knows when who was to be looked at: all of them now."""
    for name, job in draft.state.jobs.items():
        if timely(job) and job.state in (JobState.QUEUED, JobState.RUNNING, JobState.STARTING):
            draft.learn(draft.state.revisits, name, draft.now.market)


def revisit(draft: Draft) -> None:
    """Look again at the jobs that are due: they stay, move, or stop to wait."""
    state = draft.state
    for name in list(state.due)[:REVISITS]:
        draft.learn(state.due, name, None)
        job = state.jobs.get(name)
        if job is not None and timely(job) and job.after is After.NOTHING:
            _revisit(draft, job)
    state.dirty = state.dirty or bool(state.due)


def _revisit(draft: Draft, job: Job) -> None:
    running = job.state is JobState.RUNNING and not job.next_nodes
    booting = job.state is JobState.STARTING and bool(job.next_nodes) and lifecycle.quiet(draft, job)
    if not (running or booting or job.state is JobState.STARTING):
        return
    question = ask(draft.state, [job], draft.now)
    judged = judge(draft.state, job, question, draft.policy, draft.now)
    if judged is None:
        return
    if not judged.moves or not (running or (booting and judged.decision.why.net)):
        _look_again(draft, job, judged.decision)
    elif booting:
        lifecycle.unplace(draft, job, f"given up before it was up: {_why(judged)}")
        _carry_out(draft, draft.state.jobs[job.id], judged, ask(draft.state, [job], draft.now))
    elif judged.decision.target is None:
        _look_again(draft, job, judged.decision)
        lifecycle.drain(draft, job, After.MOVE, words.waits(judged.observation, judged.decision))
    else:
        job = draft.job(job, "migrating", after=After.MOVE, why=f"moves: {_why(judged)}")
        _carry_out(draft, job, judged, question)


def told(judged: Judged | None) -> Mapping[str, Any]:
    """For a dry run."""
    return {} if judged is None else judged.more()
