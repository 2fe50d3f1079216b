"""Why a running job changes its place or its size: every offer once, like any other plan's."""

from __future__ import annotations

from dataclasses import replace

from dsched.scheduler.core.elastic.options import Choice
from dsched.scheduler.core.fleetplan.queue import field_of, shortlist_of
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.report import Line, Report, Verdict, Why, write
from dsched.scheduler.core.shortlist import Stock
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.units import Moment


def account(
    job: Job, choice: Choice, words: str, question: Question, policy: Policy, now: Moment, *, reuse: int = 0
) -> Report:
    """The report of a change to `choice`, for the reason in `words`; `reuse` of its nodes stand idle and are ours."""
    seen = shortlist_of(job, field_of(job, question, policy, now), Stock.of(question)).explain(None, now)
    chosen = Line(
        offer=choice.pool.id,
        pool=choice.pool,
        shape=question.offers[choice.pool.id].shape,
        hazard=choice.hazard,
        value=choice.value,
        verdict=Verdict.CHOSEN,
        code=None,
        words=words,
    )
    others = [_beside(line, choice) for line in seen.lines if line.offer != chosen.offer]
    return write(
        at=now,
        policy=policy.name,
        need=job.spec.need,
        ranked=[chosen, *(line for line in others if line.verdict is Verdict.POSSIBLE)],
        refused=[line for line in others if line.verdict is Verdict.REFUSED],
        reuse=reuse,
    )


def _beside(line: Line, choice: Choice) -> Line:
    """What would cost less by itself was passed over for the machines that the job has."""
    if line.verdict is not Verdict.POSSIBLE or line.value is None or line.value.score >= choice.value.score:
        return line
    less = f"{1 - line.value.score / choice.value.score:.0%}" if choice.value.score else "0%"
    words = f"{less} cheaper by itself, but all of it has to be bought, and the machines at hand would be given up"
    return replace(line, code=Why.NEEDS_BUYING, words=words)
