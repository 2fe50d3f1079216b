"""The core's one door: a message in, events and effects out. No clock, no dice, no I/O.

    handle(state, message, now, rng, ...) -> Step(events, effects, answer)

The state is folded as events are written, so it is ahead of the disk until the caller has made them
durable; effects may only be carried out after that. When a message cannot be handled nothing has
changed and the exception says why.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from dsched.scheduler.core import (
    agent,
    enforce,
    fleet,
    holdover,
    learning,
    lifecycle,
    migrate,
    placing,
    proposal,
    spotshare,
    taking,
    turns,
    wishes,
)
from dsched.scheduler.core.budget import ceiling
from dsched.scheduler.core.draft import Dice, Draft
from dsched.scheduler.core.effect import CallObserve, Effect, SendAlert
from dsched.scheduler.core.elastic import review
from dsched.scheduler.core.event import Change, Event
from dsched.scheduler.core.ledger import open_charge
from dsched.scheduler.core.message import (
    Act,
    AgentHello,
    AlertTried,
    CheckpointSaved,
    ClockJumped,
    FactLost,
    FirstStep,
    Launched,
    LaunchRefused,
    LaunchUnanswered,
    MarketForeseen,
    MarketRecalled,
    Message,
    NodeNoticed,
    NodesSeen,
    OffersSeen,
    Place,
    Proposed,
    QuotasSeen,
    RanksExited,
    RanksStarted,
    RenewLease,
    Restarted,
    SetBudget,
    SetupBroke,
    StepsMeasured,
    Submit,
    Tick,
)
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.snapshot import After, Job, State
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.terms import Terms
from dsched.scheduler.core.timely import outlooks
from dsched.scheduler.core.units import HOUR, MINUTE, Instant, Millis, Moment, charge, to_charge


@dataclass(frozen=True, slots=True)
class Step:
    events: tuple[Event, ...]
    effects: tuple[Effect, ...]
    answer: Any = None


def handle(state: State, message: Message, now: Moment, rng: Dice, policy: Policy, terms: Terms) -> Step:
    """Take one message. Raises message.Refusal for a wish that cannot be granted; then nothing has changed."""
    draft = Draft(state=state, now=now, rng=rng, policy=policy, terms=terms)
    try:
        answer = _dispatch(draft, message)
    except BaseException:
        draft.undo()
        raise
    return Step(tuple(draft.events), tuple(draft.effects), answer)


def _dispatch(draft: Draft, message: Message) -> Any:  # noqa: C901 - one line per message
    match message:
        case Submit():
            message = replace(message, spec=spotshare.limited(message.spec, draft.policy))
            if message.key not in draft.state.keys:
                placing.vet(draft, message)
            return wishes.submit(draft, message)
        case Act():
            return wishes.act(draft, message)
        case SetBudget():
            return enforce.set_limit(draft, message)
        case OffersSeen():
            return placing.offers_seen(draft, message)
        case QuotasSeen():
            return placing.quotas_seen(draft, message)
        case NodesSeen():
            return fleet.seen(draft, message)
        case Launched():
            return placing.launched(draft, message)
        case LaunchRefused():
            return placing.refused(draft, message)
        case LaunchUnanswered():
            return placing.unanswered(draft, message)
        case NodeNoticed():
            return fleet.noticed(draft, message)
        case AgentHello():
            return _hello(draft, message)
        case RenewLease():
            return agent.renew(draft, message)
        case RanksStarted():
            return agent.ranks_started(draft, message)
        case RanksExited():
            return agent.exited(draft, message)
        case SetupBroke():
            return agent.setup_broke(draft, message)
        case CheckpointSaved():
            return agent.saved(draft, message)
        case FactLost():
            return agent.fact_lost(draft, message)
        case FirstStep():
            return agent.first_step(draft, message)
        case StepsMeasured():
            return learning.steps(draft, message)
        case Restarted():
            return _restarted(draft)
        case ClockJumped():
            return fleet.clock_jumped(draft, message)
        case Tick():
            return _tick(draft)
        case Place():
            return placing.place(draft)
        case MarketForeseen():
            return outlooks.foreseen(draft, message)
        case Proposed():
            return proposal.proposed(draft, message)
        case MarketRecalled():
            draft.set("streaks", {**message.streaks, **draft.state.streaks})
            return draft.set("usual", {**draft.state.usual, **message.usual})
        case AlertTried():
            return _alert(draft, message)


def _hello(draft: Draft, message: AgentHello) -> Millis:
    lease = agent.hello(draft, message)
    node = draft.state.nodes.get(message.node)
    job = draft.state.jobs.get(node.job) if node else None
    if job is not None:
        taking.move_when_ready(draft, job)
    elif node is not None:
        draft.state.wake()
    return lease


def _restarted(draft: Draft) -> None:
    """Nothing is assumed about the time away: ask every open intent again, look at every provider."""
    state = draft.state
    now = draft.now.market
    draft.set("cooling", {memory.pool: memory.cool_until for memory in state.pools.values() if memory.cool_until > now})
    spotshare.limit(draft)
    for intent in list(state.intents.values()):
        placing.resend(draft, intent)
    for provider in {node.pool.provider for node in state.nodes.values()}:
        draft.do(CallObserve(provider=provider))
    for alert in state.alerts.values():
        draft.do(SendAlert(id=alert.id))
    for name in sorted(state.active):
        lifecycle.try_start(draft, state.jobs[name])
    turns.restarted(draft)
    state.dirty = True


def _tick(draft: Draft) -> None:
    state, now = draft.state, draft.now
    fleet.watch(draft)
    placing.retry(draft)
    enforce.watch(draft)
    holdover.book(draft)
    holdover.watch(draft)
    for name in sorted(state.limited):
        _limits(draft, state.jobs[name])
    review.review(draft)
    migrate.review(draft)
    for name in [name for name, at in state.delayed.items() if at <= now.wall]:
        draft.learn(state.delayed, name, None)
        if name in state.active:
            lifecycle.try_start(draft, state.jobs[name])
        state.look_at(name)
    turns.due(draft)
    for pool in [pool for pool, until in state.cooling.items() if until <= now.market]:
        draft.learn(state.cooling, pool, None)
        draft.tell(pool)
        state.wake()
    for alert in state.alerts.values():
        if alert.tries and alert.due <= now.wall:
            draft.do(SendAlert(id=alert.id))
    state.forget_ended()


def _limits(draft: Draft, job: Job) -> None:
    """The job's own limits in time and money: both end in a checkpoint, never in a kill."""
    if job.state is JobState.DRAINING or job.after is not After.NOTHING:
        return
    spec = job.spec
    if spec.duration_max is not None and lifecycle.time_running(draft, job) > spec.duration_max:
        lifecycle.drain(draft, job, After.CANCEL, f"max_duration of {spec.duration_max / HOUR:.1f} h is over")
        return
    if spec.cost_max is not None:
        nodes = [draft.state.nodes[n] for n in (*job.nodes, *job.next_nodes) if n in draft.state.nodes]
        ahead = sum(charge(ceiling(n), spec.drain) * draft.state.scale for n in nodes)
        running = sum(open_charge(n, draft.now.market)[0] for n in nodes)
        if job.spent + running + ahead >= to_charge(spec.cost_max):
            lifecycle.drain(draft, job, After.HOLD, "max_cost is spent")
            return
    if spec.need.spot_share < 1.0:
        spotshare.watch(draft, job)


def _alert(draft: Draft, message: AlertTried) -> None:
    alert = draft.state.alerts.get(message.id)
    if alert is None:
        return
    wait = min(MINUTE << min(alert.tries, 6), HOUR)
    changed = {
        "sent": message.ok,
        "tries": alert.tries + 1,
        "error": message.error,
        "due": Instant(draft.now.wall + wait),
    }
    kind = "alert.sent" if message.ok else "alert.failed"
    draft.say(kind, Change("alert", alert.id, changed), why=alert.title if message.ok else message.error)
