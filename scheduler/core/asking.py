"""What the planner is asked: the jobs whose turn it is, and the world as it may see it.

Jobs of one class fit the same offers: only the first of them are asked about, and when they find nothing the rest of
the class waits too. A class that found nothing before is only asked about again while there is hope. A pass is short,
so that messages are heard in between; what is left waits for the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, islice
from typing import Final

from dsched.scheduler.core.budget import promised, room
from dsched.scheduler.core.draft import Draft
from dsched.scheduler.core.effect import WakeAt
from dsched.scheduler.core.elastic.keep import shrinks
from dsched.scheduler.core.hold import in_force
from dsched.scheduler.core.hope import Hope
from dsched.scheduler.core.ledger import budget_of
from dsched.scheduler.core.market import Offer
from dsched.scheduler.core.placement import LARGE, Policy, Promise, Question
from dsched.scheduler.core.quota import left
from dsched.scheduler.core.share import level, shares, total
from dsched.scheduler.core.snapshot import Job, Kind, Node, PoolMemory, QueueKey, State
from dsched.scheduler.core.state import NodeState
from dsched.scheduler.core.units import HOUR, Instant, Moment

HEADS: Final = 64  # jobs of one class looked at per pass; more would not fit a market of this size anyway
LOOKS: Final = 1_000  # offers judged in one pass, each in some 10 us: everybody else waits so long at most
GLANCES: Final = 8  # a look at an offer that only tells whether there is hope costs an eighth of a judgement
COLUMNS: Final = 64  # offers of a large market that are judged in the time of one: all of a class at once, as arrays
ASKED: Final = 50  # jobs per pass over a large market: a placement with its decision takes a millisecond there
CLASSES: Final = 1_000  # classes per pass, whatever is known about them already


def waiting(draft: Draft) -> tuple[list[Job], bool]:
    """The jobs to plan for, and whether classes are left for the next pass. Jobs that lose their nodes come first."""
    state = draft.state
    moving = (state.jobs[name] for name in sorted(state.moving))
    jobs = [job for job in moving if not _delayed(draft, job) and not shrinks(state, job, draft.policy.nodes_max)]
    if not state.waiting:
        return jobs, False
    found, rest = _heads(draft)
    return jobs + found, rest


def _heads(draft: Draft) -> tuple[list[Job], bool]:
    state = draft.state
    hope = Hope(ask(state, [], draft.policy, draft.now), draft.now, draft.policy.nodes_max)
    jobs: list[Job] = []
    judged, large = 0, len(state.offers) > LARGE
    each, most = (len(state.offers) // COLUMNS, ASKED) if large else (len(state.offers), HEADS * CLASSES)
    classes: set[tuple[object, ...]] = set()  # kinds of jobs that see the same offers are judged together
    for number, (kind, order) in enumerate(_by_turn(draft)):
        if number >= CLASSES or len(jobs) >= most or (number and judged + hope.looked // GLANCES > LOOKS):
            return jobs, True
        if kind in state.blocked and not hope.left(kind):
            del state.waiting[kind]
            continue
        due = _due(draft, order)
        if due:
            alike = (kind.need, kind.drain)
            judged += 1 if large and alike in classes else max(1, each)
            classes.add(alike)
            jobs += due[: most - len(jobs)]
        else:
            del state.waiting[kind]  # until the first of them is due
    return jobs, False


def _by_turn(draft: Draft) -> list[tuple[Kind, list[QueueKey]]]:
    """The waiting classes by priority, by how far their user is over a fair share, and by their first job."""
    state = draft.state
    firsts = [state.jobs[order[0][-1]] for order in state.waiting.values()]
    known = shares(state, draft.policy, draft.now, firsts)
    over = {user: level(user, known, total(known)) for user in known}
    return sorted(state.waiting.items(), key=lambda one: (one[1][0][0], over.get(one[0].user, 0), one[1][0]))


def _due(draft: Draft, order: list[QueueKey]) -> list[Job]:
    """The first of a class, without those that wait for their time."""
    first = (draft.state.jobs[key[-1]] for key in islice(order, HEADS))
    return [job for job in first if not _delayed(draft, job)]


def _delayed(draft: Draft, job: Job) -> bool:
    """Whether its time has not come; then a tick looks at it again."""
    if job.due <= draft.now.wall:
        return False
    draft.learn(draft.state.delayed, job.id, job.due)
    draft.do(WakeAt(at=job.due))
    return True


def ask(state: State, jobs: list[Job], policy: Policy, now: Moment, *, heir: str = "") -> Question:
    """The planner's view: these jobs, every offer, the nodes that stand idle, what the budgets still carry.

    Nodes that were freed for a job by preemption are idle for that job, the `heir`, alone.
    """
    idle: dict[str, tuple[str, ...]] = {}
    asked: Counter[str] = Counter()
    ours: list[Node] = []  # that the jobs may take or keep
    mine = {job.id for job in jobs}
    for node in state.nodes.values():
        if idle_for(state, node, heir, now):
            idle[node.pool.id] = (*idle.get(node.pool.id, ()), node.id)
            ours.append(node)
        elif node.state is NodeState.REQUESTED:
            asked[node.pool.id] += 1
        elif node.job in mine:
            ours.append(node)
    rooms = room(state, now)
    return Question(
        jobs=tuple(jobs),
        offers=_less(state.offers, asked) if asked else state.offers,
        idle=idle,
        pools=_with_probes(state, now),
        room=rooms,
        promised={
            node.id: Promise(name, promised(state, node, now))
            for node in ours
            if rooms.get(name := budget_of(state, node)) is not None
        },
        remaining={job.id: hours for job in jobs if (hours := remaining_hours(state, job)) is not None},
        scale=state.scale,
        speeds=state.speeds,
        columns=_columns(state),
        quotas=left(
            (*policy.quotas, *chain(*state.quotas.values()), *in_force(policy.held, now.market)),
            (n.pool for n in state.nodes.values()),
            state.offers,
        ),
    )


def _columns(state: State) -> object:
    """The offers of a large market as arrays, made once for all passes over it."""
    if len(state.offers) <= LARGE:
        return None
    from dsched.scheduler.core.fleetplan.columns import Columns  # loads numpy, without which a daemon is there sooner

    if not isinstance(state.columns, Columns) or state.columns.offers is not state.offers:
        state.columns = Columns.of(state.offers)
    return state.columns


def idle_for(state: State, node: Node, heir: str, now: Moment) -> bool:
    """Whether it stands idle, and is not kept for another job."""
    if node.state is not NodeState.READY or node.job or node.leaving:
        return False
    kept_for, until = state.promised.get(node.id, ("", Instant(0)))
    return kept_for in ("", heir) or now.wall > until


def doubted(state: State, pool: str) -> bool:
    """Whether it refused last: then one launch at a time asks until it sells again."""
    memory = state.pools.get(pool)
    return memory is not None and memory.refusals > 0


def _with_probes(state: State, now: Moment) -> Mapping[str, PoolMemory]:
    """A doubted pool is closed while a launch there is not answered."""
    probed = {i.pool.id for i in state.intents.values() if doubted(state, i.pool.id)}
    if not probed:
        return state.pools
    until, why = Instant(now.market + 1), "a launch is under way that tries whether it sells again"
    closed = {id: replace(state.pools[id], cool_until=max(state.pools[id].cool_until, until), why=why) for id in probed}
    return {**state.pools, **closed}


def _less(offers: Mapping[str, Offer], asked: Counter[str]) -> dict[str, Offer]:
    """What earlier passes asked for is not free any more, though the market has not said so yet."""
    left = dict(offers)
    for pool, count in asked.items():
        offer = left.get(pool)
        if offer is not None and offer.free is not None:
            left[pool] = replace(offer, free=max(0, offer.free - count))
    return left


def remaining_hours(state: State, job: Job) -> float | None:
    """Work left, in hours on the reference gang: the user's estimate, less the share of steps that is safe."""
    if job.spec.duration is None:
        return None
    progress = state.progress.get(job.id)
    steps = job.spec.steps or (progress.steps if progress else None)
    done = min(1.0, job.checkpoint_step / steps) if steps else 0.0
    return job.spec.duration / HOUR * (1.0 - done)
