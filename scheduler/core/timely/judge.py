"""One job judged by its deadline policy: the decision, with all that it was made from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from dsched.scheduler.core.deadline.decide import decide, slack_price
from dsched.scheduler.core.deadline.view import Decision, Observation
from dsched.scheduler.core.migrate import held
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.report import Report
from dsched.scheduler.core.snapshot import Job, State
from dsched.scheduler.core.timely import words
from dsched.scheduler.core.timely.account import account
from dsched.scheduler.core.timely.foresight import Foreseen, Request, request
from dsched.scheduler.core.timely.look import Look, look
from dsched.scheduler.core.timely.rule import FORESIGHTED, Terms, rule, rule_for
from dsched.scheduler.core.units import Moment


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
        judge = rule_for(self.observation, self.policy, self.terms, scale)
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
    terms = Terms(
        rework=seen.uncommitted if seen.observation.job.proved else 0.0,  # else nobody knows that it will be saved
        hold=held(state, job, policy, now),
        foreseen=ahead is not None,
        soon=soon,
    )
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
