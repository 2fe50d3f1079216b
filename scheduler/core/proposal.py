"""Better plans than the greedy one, from a solver in a process of its own, which may be late, wrong or dead.

The greedy pass decides job by job, so an early job may take what a later one needs more. Where jobs that differ use up
something finite, and the pass costs more than the sum of everybody's best offer allows, that bound tells by how much at
most; a `Puzzle` of the same jobs and the best offers of each goes out, and a choice comes in. It is taken only for the
question it was made for (the puzzle's id is a digest of its jobs, offers, prices and capacities), if at today's costs
it saves `solver_margin` and the checker finds nothing wrong with it. The same jobs are placed in either case; until the
answer, for `Policy.solver` at most, they wait; then the greedy plan is carried out. One job alone never waits.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from dsched.scheduler.core.draft import Draft
from dsched.scheduler.core.effect import Propose, WakeAt
from dsched.scheduler.core.fleetplan.queue import Queue
from dsched.scheduler.core.message import Proposed
from dsched.scheduler.core.placement import Placement, Policy, Question
from dsched.scheduler.core.plan import Plan
from dsched.scheduler.core.report import Report, Why
from dsched.scheduler.core.shortlist import Judged, Stock, Tier
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import Instant, Moment
from dsched.scheduler.core.work import work_left

BEST: Final = 8  # offers of each job: beyond them a cheaper plan is hardly ever found
JOBS: Final = 200  # in one puzzle: more are solved too late to be of use
LOOKS: Final = 5_000  # jobs x offers, judged in 10 us each: above that a pass would wait too long for its own puzzle


class Candidate(NamedTuple):
    job: int
    pool: str
    cost: float  # micro-dollars to the end of the work; per useful hour where that is not known


class Limit(NamedTuple):
    """The sum of amount x choice may not be above `most`: nodes of a pool, a quota, a budget."""

    most: float
    uses: tuple[tuple[int, float], ...]  # candidate, amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Puzzle:
    """Each job gets exactly one of its candidates, within all limits, for the least sum of costs."""

    id: str
    jobs: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    limits: tuple[Limit, ...]


class Posed(NamedTuple):
    puzzle: Puzzle
    greedy: float  # what the greedy plan costs
    bound: float  # what no plan is below: everybody's best offer


def pose(question: Question, policy: Policy, now: Moment, greedy: Plan) -> Posed | None:
    """None: there is nothing to choose, or the jobs differ in priority, or one must not wait."""
    chosen = {placed.job: placed.pool.id for placed in greedy.placements}
    jobs = [job for job in question.jobs if job.id in chosen]
    if not 2 <= len(jobs) <= JOBS or len({job.spec.priority for job in jobs}) > 1 or greedy.more:
        return None
    if any(job.state is not JobState.QUEUED for job in jobs) or not _contended(question, jobs, greedy):
        return None
    queue, spent, bound = Queue(question, policy, now), 0.0, 0.0
    found: list[Candidate] = []
    uses: defaultdict[tuple[str, str | int], list[tuple[int, float]]] = defaultdict(list)
    for number, job in enumerate(jobs):
        judged = _best(queue, job, chosen[job.id])
        costs = {one.line.offer: _cost(one) for one in judged}
        if chosen[job.id] not in costs:
            return None
        spent, bound = spent + costs[chosen[job.id]], bound + min(costs.values())
        for one in judged:
            _use(uses, queue.stock, job, one, len(found))
            found.append(Candidate(number, one.line.offer, costs[one.line.offer]))
    limits = tuple(Limit(_most(kind, queue.stock), tuple(used)) for kind, used in uses.items())
    puzzle = Puzzle(
        id=_digest(question, jobs, found), jobs=tuple(job.id for job in jobs), candidates=tuple(found), limits=limits
    )
    return Posed(puzzle, spent, bound)


def _contended(question: Question, jobs: Sequence[Job], greedy: Plan) -> bool:
    """Whether the jobs get in each other's way, and it matters which of them yields."""
    if len(jobs) * len(question.offers) > LOOKS or len({_alike(job, question) for job in jobs}) < 2:
        return False
    if question.quotas or any(question.room.get(job.spec.budget) is not None for job in jobs):
        return True
    bought: Counter[str] = Counter()
    for placed in greedy.placements:
        bought[placed.pool.id] += placed.buy
    largest = max(placed.nodes for placed in greedy.placements)
    free = ((question.offers[pool].free, count) for pool, count in bought.items())
    return any(has is not None and has - count < largest for has, count in free)


def _alike(job: Job, question: Question) -> tuple[object, ...]:
    """Equal for jobs that could change places without anybody noticing."""
    spec = job.spec
    return spec.need, job.places, job.avoid, spec.checkpoint.every, spec.drain, spec.budget, work_left(job, question)


def _digest(question: Question, jobs: Sequence[Job], found: Sequence[Candidate]) -> str:
    """Of what a choice is a choice of. Costs and budgets move with every second: they are judged when it comes."""
    offers = question.offers
    pools = sorted({one.pool for one in found})
    rows = (
        [(job.id, job.generation) for job in jobs],
        sorted((one.job, one.pool) for one in found),
        [(pool, quote.price if (quote := offers[pool].quote) else None, offers[pool].free) for pool in pools],
        sorted(question.idle.items()),
        [one.left for one in question.quotas],
    )
    return blake2b(repr(rows).encode(), digest_size=8).hexdigest()


def _best(queue: Queue, job: Job, chosen: str) -> list[Judged]:
    """The cheapest good offers, and the one that the greedy plan took."""
    good = [one for one in queue.shortlist(job).ranked if one.tier is Tier.GOOD]
    return good[:BEST] + [one for one in good[BEST:] if one.line.offer == chosen]


def _cost(judged: Judged) -> float:
    assert judged.line.value is not None, "good offers are valued"
    return judged.line.value.score


def _use(
    uses: defaultdict[tuple[str, str | int], list[tuple[int, float]]], stock: Stock, job: Job, one: Judged, number: int
) -> None:
    value, pool = one.line.value, one.line.offer
    assert value is not None, "good offers are valued"
    if stock.free[pool] is not None:
        uses["pool", pool].append((number, float(value.nodes)))
    if stock.room.get(job.spec.budget) is not None:
        uses["budget", job.spec.budget].append((number, float(value.reserve)))
    for claim in stock.claims.get(pool, ()):
        uses["quota", claim.number].append((number, float(claim.each * value.nodes)))


def _most(kind: tuple[str, str | int], stock: Stock) -> float:
    what, name = kind
    if isinstance(name, int):
        return float(stock.quotas[name])
    if what == "pool":
        return float(stock.idle_in(name) + (stock.free[name] or 0))
    ahead = sum(promise.charge for promise in stock.promised.values() if promise.budget == name)
    return float((stock.room[name] or 0) + ahead)  # more than can be had: what idle nodes it takes, the check sees


def rearranged(question: Question, policy: Policy, now: Moment, greedy: Plan, choice: Mapping[str, str]) -> Plan | None:
    """The greedy plan with each job in the pool that the choice names; None where that cannot be, or is wrong."""
    from dsched.scheduler.core.check import check  # many classes: no start should wait for what hardly any daemon asks

    queue = Queue(question, policy, now)
    jobs = {job.id: job for job in question.jobs}
    placements: list[Placement] = []
    reports: dict[str, Report] = {id: greedy.reports[id] for id in jobs if id in greedy.reports}
    for placed in greedy.placements:
        shortlist = queue.shortlist(jobs[placed.job])
        shortlist.choose(queue.stock, late=False)  # judges again what was taken meanwhile
        judged = shortlist.at(choice.get(placed.job, ""))
        if judged is None or judged.tier is not Tier.GOOD:
            return None
        reports[placed.job] = shortlist.explain(judged, now, cheaper=Why.LEFT_TO_OTHERS)
        made = queue.placement(jobs[placed.job], judged)
        queue.stock.take(made)
        placements.append(made)
    plan = replace(greedy, placements=tuple(placements), reports=reports)
    return None if check(question, plan) else plan


# -- in the core's loop ---------------------------------------------------------------------------------------------


class Better(NamedTuple):
    """The plan to carry out."""

    plan: Plan
    told: Mapping[str, Any]  # what is stored with each decision: where it is not the greedy plan, what that saves


def better(draft: Draft, question: Question, greedy: Plan) -> Better | None:
    """The plan to carry out: the greedy one unless a better one is there. None: an answer is worth waiting for."""
    state, policy, now = draft.state, draft.policy, draft.now
    posed = pose(question, policy, now, greedy) if policy.solver else None
    if posed is None or posed.greedy - posed.bound <= policy.solver_margin * posed.greedy:
        return _decided(draft, Better(greedy, {}))
    choice = state.proposals.get(posed.puzzle.id)
    if choice is not None:
        return _decided(draft, _taken(posed, question, policy, now, greedy, choice))
    if any(state.pondered.get(id, now.wall + 1) <= now.wall for id in posed.puzzle.jobs):
        return _decided(draft, Better(greedy, {}))  # late, or dead, or the world changes faster than it is solved
    until = Instant(now.wall + policy.solver)
    for id in posed.puzzle.jobs:
        draft.learn(state.pondered, id, state.pondered.get(id, until))
        draft.learn(state.delayed, id, state.pondered[id])
        draft.do(WakeAt(at=state.pondered[id]))
    if posed.puzzle.id not in state.posed:
        draft.set("posed", (*state.posed, posed.puzzle.id)[-BEST:])
        draft.do(Propose(puzzle=posed.puzzle))
    return None


def _taken(
    posed: Posed, question: Question, policy: Policy, now: Moment, greedy: Plan, choice: Sequence[tuple[str, str]]
) -> Better:
    """The plan of the choice, if it is one, is worth it and is right; else the greedy one."""
    costs = {(posed.puzzle.jobs[one.job], one.pool): one.cost for one in posed.puzzle.candidates}
    whole = {job for job, _ in choice} == set(posed.puzzle.jobs) and len(choice) == len(posed.puzzle.jobs)
    if not whole or any(one not in costs for one in choice):
        return Better(greedy, {})
    saved = posed.greedy - sum(costs[one] for one in choice)
    if saved <= policy.solver_margin * posed.greedy:
        return Better(greedy, {})
    plan = rearranged(question, policy, now, greedy, dict(choice))
    if plan is None:
        return Better(greedy, {})
    return Better(plan, {"together": {"jobs": len(posed.puzzle.jobs), "saves": round(saved / posed.greedy, 4)}})


def _decided(draft: Draft, better: Better) -> Better:
    for placed in better.plan.placements:
        draft.learn(draft.state.pondered, placed.job, None)
    return better


def proposed(draft: Draft, message: Proposed) -> None:
    """Kept until the jobs are looked at, which is at once."""
    if message.id in draft.state.posed:
        draft.set("proposals", {message.id: message.choice})
        draft.state.wake()
