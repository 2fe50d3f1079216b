"""Room for a job of higher priority that finds none: the cheapest lower jobs save, leave, and queue again.

Only when no ordinary capacity can be had at all, at whatever price the job allows; only whole gangs; never a job with a
deadline, whose promise is ours to keep; and never the same job for ever. What becomes free is kept for the job until it
is all there. Then the planner places it: on those nodes, or elsewhere if the market has become better meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from dsched.scheduler.core import lifecycle
from dsched.scheduler.core.asking import ask, idle_for
from dsched.scheduler.core.draft import Draft
from dsched.scheduler.core.effect import WakeAt
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.plan import plan
from dsched.scheduler.core.shortlist import Field, Stock
from dsched.scheduler.core.snapshot import After, Job, State
from dsched.scheduler.core.state import JobState, NodeState
from dsched.scheduler.core.units import HOUR, MINUTE, Instant, Millis, Moment

HEADS: Final = 4  # waiting jobs looked at in one pass: each takes a look at every offer
SETS: Final = 3  # sets of victims tried for one job: the first fits unless a limit in money is against it
AGAIN: Final = MINUTE  # wall: after a look in vain; what could change that, a gang that has run long enough, is rare
SPARE: Final = MINUTE  # wall: beyond the drain, for the proof that the ranks are gone and the pass that places the heir


class Victim(NamedTuple):
    """A gang that may be asked to leave."""

    priority: int
    lost: int  # micro-dollars: what its restart costs
    job: str
    pool: str
    nodes: tuple[str, ...]


class Room(NamedTuple):
    """A set of victims in one pool. Compared as it stands: the lowest priorities, then the least loss."""

    priority: int  # the highest among them
    lost: int
    gangs: int
    pool: str
    victims: tuple[Victim, ...]


def consider(draft: Draft) -> None:
    """For the first waiting jobs that nothing fits: ask lower jobs to leave where that makes room, one set a pass."""
    state = draft.state
    heads = sorted(state.queue[kind][0] for kind in state.blocked if kind in state.queue)
    running = [state.jobs[name].spec.priority for name in state.active]
    if not heads or not running or -heads[0][0] <= min(running):
        return
    lower = victims(state, draft.policy, draft.now)
    if not lower:
        return
    least = min(victim.priority for victim in lower)
    heirs = {job for job, _ in state.promised.values()}
    for key in heads[:HEADS]:
        job = state.jobs[key[-1]]
        if job.spec.priority <= least:
            return
        if job.id in heirs or not _waited(draft, job):
            continue
        if _make_room(draft, job, lower):
            return
        _look_again(draft, job, Instant(draft.now.wall + AGAIN))


def due(draft: Draft) -> list[Job]:
    """Heirs whose nodes are all free now; promises that are over are forgotten."""
    state, now = draft.state, draft.now
    kept: defaultdict[str, list[str]] = defaultdict(list)
    for name, (heir, until) in list(state.promised.items()):
        job = state.jobs.get(heir)
        if job is None or job.state is not JobState.QUEUED or now.wall > until:
            draft.learn(state.promised, name, None)
        else:
            kept[heir].append(name)
    return [
        state.jobs[heir]
        for heir, names in kept.items()
        if all(idle_for(state, state.nodes[n], heir, now) for n in names)
    ]


def forget(draft: Draft, heir: Job) -> None:
    """Its nodes are anybody's: it was placed, or does not fit on them after all."""
    for name, (job, _) in list(draft.state.promised.items()):
        if job == heir.id:
            draft.learn(draft.state.promised, name, None)


def victims(state: State, policy: Policy, now: Moment) -> list[Victim]:
    """The gangs that could be asked to leave."""
    found = []
    for name in sorted(state.active):
        job = state.jobs[name]
        attempt = state.attempt(job)
        if job.state is not JobState.RUNNING or job.after is not After.NOTHING or job.next_nodes or attempt is None:
            continue
        if job.spec.deadline is not None or job.yielded >= policy.preempt_max:
            continue
        if attempt.running is None or now.wall - attempt.running.wall < policy.preempt_ran:
            continue
        nodes = [state.nodes[n] for n in job.nodes if n in state.nodes]
        whole = len(nodes) == len(job.nodes) and len({node.pool.id for node in nodes}) == 1
        if whole and all(n.state is NodeState.READY and n.notice is None and not n.leaving for n in nodes):
            again = policy.restart + policy.write + job.spec.drain
            lost = sum(node.rate for node in nodes) * round(again * state.scale) // HOUR
            found.append(Victim(job.spec.priority, lost, name, nodes[0].pool.id, job.nodes))
    return found


def cheapest(among: Sequence[Victim], wanted: int, pool: str) -> Room | None:
    """Whole gangs with at least so many nodes together: of the lowest priorities that do, those that lose least.

    Exact, by the least loss for each number of nodes. [priorities x victims x wanted] steps.
    """
    for priority in sorted({victim.priority for victim in among}):
        best: dict[int, tuple[int, int, tuple[Victim, ...]]] = {0: (0, 0, ())}  # nodes -> loss, count, who
        for victim in among:
            if victim.priority > priority:
                continue
            for nodes, (lost, count, who) in list(best.items()):
                reached = min(wanted, nodes + len(victim.nodes))
                more = (lost + victim.lost, count + 1, (*who, victim))
                if reached not in best or more[:2] < best[reached][:2]:
                    best[reached] = more
        if wanted in best:
            lost, count, who = best[wanted]
            return Room(priority, lost, count, pool, who)
    return None


def rooms(job: Job, question: Question, policy: Policy, now: Moment, lower: Iterable[Victim]) -> list[Room]:
    """Per pool that could serve it: the cheapest victims that, with what is free, make room for its smallest gang."""
    need, stock = job.spec.need, Stock.of(question)
    field = Field(need, job.places or need.places, question, policy, now)
    there: defaultdict[str, list[Victim]] = defaultdict(list)
    for victim in lower:
        if victim.priority < job.spec.priority and victim.pool in field.entries:
            there[victim.pool].append(victim)
    found = []
    for pool, among in there.items():
        entry = field.entries[pool]
        wanted = entry.sizes[0] - max(0, entry.largest(stock))
        made = cheapest(among, wanted, pool) if wanted > 0 else None
        if made is not None:
            found.append(made)
    return sorted(found, key=lambda room: room[:4])


def _waited(draft: Draft, job: Job) -> bool:
    """Whether it has looked for capacity long enough; else it is looked at again when it has."""
    at = Instant(max(job.submitted.wall, job.due) + draft.policy.preempt_after)
    if draft.now.wall < at:
        _look_again(draft, job, at)
        return False
    return draft.state.delayed.get(job.id, draft.now.wall) <= draft.now.wall


def _look_again(draft: Draft, job: Job, at: Instant) -> None:
    draft.learn(draft.state.delayed, job.id, at)
    draft.do(WakeAt(at=at))


def _make_room(draft: Draft, job: Job, lower: Sequence[Victim]) -> bool:
    state, policy, now = draft.state, draft.policy, draft.now
    question = ask(state, [job], policy, now)
    found = rooms(job, question, policy, now, lower)
    if not found or plan(question, policy, now=now, rng=draft.rng).placements:
        return False  # nobody can make room, or ordinary capacity can be had
    for room in found[:SETS]:
        nodes = tuple(name for victim in room.victims for name in victim.nodes)
        with_them = replace(question, idle=_more(question.idle, room.pool, nodes))
        placements = plan(with_them, policy, now=now, rng=draft.rng).placements
        if placements and placements[0].pool.id == room.pool:
            _ask_to_leave(draft, job, room)
            return True
    return False


def _more(idle: Mapping[str, tuple[str, ...]], pool: str, nodes: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return {**idle, pool: (*idle.get(pool, ()), *nodes)}


def _ask_to_leave(draft: Draft, heir: Job, room: Room) -> None:
    state = draft.state
    who = ", ".join(victim.job for victim in room.victims)
    draft.job(heir, "preempts", why=f"{who} of lower priority save and leave {room.pool} for it", data={"jobs": who})
    drain = max(state.jobs[victim.job].spec.drain for victim in room.victims)
    until = Instant(draft.now.wall + drain + Millis(SPARE))
    for victim in room.victims:
        for name in victim.nodes:
            draft.learn(state.promised, name, (heir.id, until))
        why = f"preempted: {heir.id} of priority {heir.spec.priority} finds no other capacity"
        job = draft.job(state.jobs[victim.job], "preempted", why=why, yielded=state.jobs[victim.job].yielded + 1)
        lifecycle.drain(draft, job, After.YIELD, why)
    draft.do(WakeAt(at=Instant(until + 1)))
