"""One job with a deadline as its policy sees it: from rows, offers and memory to an `Observation`.

The policy's clock is market time in seconds. What the job has done counts as far as it told, committed or not; what an
interruption may take back of that is part of every changeover while it runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from dsched.scheduler.core import hazard
from dsched.scheduler.core.deadline.view import JobView, Observation, Option
from dsched.scheduler.core.elastic.keep import with_own
from dsched.scheduler.core.elastic.options import Choice, options, paid
from dsched.scheduler.core.market import Market, Pool
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.progress import Standing, standing
from dsched.scheduler.core.snapshot import Attempt, Job, Node, State
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import MICRO, SECOND, Instant, Millis, Moment
from dsched.scheduler.core.work import work_left

CALM: Final = 1e-6  # the factor on the age law of what nobody takes back; not 0, so that lives stay finite
OPTIONS_MAX: Final = 256  # that a policy is asked about: a decision is stored with all of them, some 30 KB
OVERDUE: Final = 0.5  # of a changeover: what a boot that takes longer than that is expected to take still


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen, and the terms behind it."""

    observation: Observation
    choices: dict[str, Choice]  # by option id; the running one may be missing when its pool has no price
    uncommitted: float  # s of work that an interruption would take back at most


def look(state: State, job: Job, question: Question, policy: Policy, now: Moment) -> Look | None:
    """The job now. None: nothing can be had for it, within its limits in money."""
    deadline, total = job.spec.deadline, job.spec.duration
    assert deadline is not None, "only asked of timely jobs"
    assert total is not None, "only asked of timely jobs"
    nodes = holds(state, job)
    running = f"{nodes[0].pool.id}*{len(nodes)}" if nodes else None
    question = with_own(question, state, job)
    found = options(job, question, policy, now)
    speed = next((c.speed for c in found if c.id == running), 1.0)
    stands = standing(state, job, work_left(job, question) or 0.0, now, speed)
    left = stands.left
    choices = {
        c.id: c
        for c in found
        if c.id == running or (paid(job, c, question, policy) and _lasts(c, left, question, policy, now))
    }
    rework = _rework(state, job, question, policy, stands) if job.state is JobState.RUNNING else 0.0
    seen = {id: _option(state, choice, policy, now, rework) for id, choice in choices.items()}
    if running is not None:
        listed = seen.get(running)
        seen[running] = replace(listed, up=True) if listed else _unlisted(nodes, running, question, policy)
    if not seen:
        return None
    warm_in = _warm_in(state, job, nodes, seen[running].changeover, question, now) if running else 0.0
    view = JobView(
        work=max(total / SECOND, left),
        left=left,
        begun=job.submitted.market / SECOND,
        deadline=deadline / SECOND,
        running=running,
        warm_in=warm_in,
        lost=_lost(state, job),
        proved=stands.proved,
    )
    grain = max(policy.revisit, question.market(policy.revisit_wall)) / SECOND
    bound = {running, *(f"{node.pool.id}*{len(job.next_nodes)}" for node in _next(state, job))}
    asked = _asked_about(list(seen.values()), left, bound)
    observation = Observation(now=now.market / SECOND, grain=grain, options=asked, job=view)
    return Look(observation=observation, choices=choices, uncommitted=rework)


def _next(state: State, job: Job) -> list[Node]:
    return [node for name in job.next_nodes if (node := state.nodes.get(name)) is not None]


def _asked_about(options: list[Option], left: float, bound: set[str | None]) -> list[Option]:
    """In a large market the cheapest of spot and of sure capacity, those that end first, and what the job is bound to.

    So a stored decision is brief and has all that it was made of.
    """
    if len(options) <= OPTIONS_MAX:
        return options

    def needs(option: Option) -> float:
        return left / option.speed + option.changeover

    def costs(option: Option) -> float:
        return option.egress + option.price * needs(option) / 3600.0

    spot, sure = ([o for o in options if (o.market is Market.SPOT) is it] for it in (True, False))
    few = OPTIONS_MAX // 8
    ready = [option for option in sure if option.up is not False]
    best = sorted(spot, key=costs)[: OPTIONS_MAX // 2] + sorted(sure, key=costs)[:few]
    best += sorted(ready, key=costs)[:few] + sorted(ready, key=needs)[:few]
    kept = bound | {option.id for option in best}
    return [option for option in options if option.id in kept]


def holds(state: State, job: Job) -> list[Node]:
    """The machines that its next or present generation runs on; none once they are to be taken."""
    names = job.next_nodes if job.state in (JobState.STARTING, JobState.QUEUED) and job.next_nodes else job.nodes
    nodes = [node for name in names if (node := state.nodes.get(name)) is not None]
    whole = len(nodes) == len(names) and job.state in (JobState.STARTING, JobState.RUNNING)
    return nodes if whole and not any(node.notice is not None or node.leaving for node in nodes) else []


def _rework(state: State, job: Job, question: Question, policy: Policy, stands: Standing) -> float:
    """Seconds of work that an interruption without notice may take back: what is done between two checkpoints.

    All that it has run where it proves nothing of it.
    """
    if not stands.proved:
        return stands.unproved
    return question.market(state.intervals.get(job.id, policy.checkpoint_max)) / SECOND


def _lasts(choice: Choice, left: float, question: Question, policy: Policy, now: Moment) -> bool:
    """Whether the work can end there: capacity that ends before is no sure place for a promise."""
    until = question.offers[choice.pool.id].until
    if until is None:
        return True
    busy = choice.changeover * policy.stretch + left / max(choice.speed, 1e-9)
    return now.market + busy * SECOND <= until


def _option(state: State, choice: Choice, policy: Policy, now: Moment, rework: float) -> Option:
    """With the age of its pool, and the factor that the pool has earned on the age law.

    Spot of which nobody tells whether it can be had is worth a try: a refusal costs seconds, and closes it for a while.
    """
    pool = choice.pool
    made = Option(
        id=choice.id,
        region=f"{pool.provider}/{pool.region}",
        market=pool.market,
        price=choice.price,
        speed=choice.speed,
        up=choice.up is not False,
        hazard=CALM,
        changeover=choice.changeover + rework,
        egress=choice.egress,
    )
    if pool.market is not Market.SPOT:
        return made
    streak = state.streaks.get(pool.id)
    up = choice.up if choice.up is not None else streak is None or streak.up or _closed_long(streak.since, policy, now)
    known = hazard.age(streak, now.market) if up or streak is None else now.market - streak.since
    offer = state.offers.get(pool.id)
    factor = hazard.relative(offer, state.pools.get(pool.id), streak, policy, now.market)
    return replace(made, up=up, age=max(0, known) / SECOND, hazard=factor)


def _closed_long(since: Instant, policy: Policy, now: Moment) -> bool:
    """A pool that refused, and has not been asked since its cool-down ended."""
    return now.market - since >= policy.cooldown


def _unlisted(nodes: list[Node], id: str, question: Question, policy: Policy) -> Option:
    """The option that it runs on, which nothing offers any more: at the rate that is paid."""
    pool: Pool = nodes[0].pool
    return Option(
        id=id,
        region=f"{pool.provider}/{pool.region}",
        market=pool.market,
        price=sum(node.rate for node in nodes) / MICRO,
        up=True,
        changeover=question.market(policy.restart) / SECOND,
    )


def _warm_in(state: State, job: Job, nodes: list[Node], changeover: float, question: Question, now: Moment) -> float:
    """Seconds until it makes progress where it is."""
    attempt = state.attempt(job)
    if job.state is JobState.RUNNING and attempt is not None and _works(state, job, attempt):
        return 0.0
    begun = (
        attempt.decided.wall if attempt is not None and not job.next_nodes else min(n.asked or now.wall for n in nodes)
    )
    gone = question.market(Millis(max(0, now.wall - begun))) / SECOND
    return changeover - gone if gone < changeover else changeover * OVERDUE


def _works(state: State, job: Job, attempt: Attempt) -> bool:
    """Whether its first step is done, as far as it tells steps at all."""
    return attempt.first_step is not None or job.id not in state.progress


def _lost(state: State, job: Job) -> str | None:
    """The region that was left last because a pool there failed the job."""
    offer = state.offers.get(job.avoid[-1]) if job.avoid else None
    return f"{offer.pool.provider}/{offer.pool.region}" if offer else None
