"""What the clock does to capacity that is held: its cost is booked by the hour, and jobs leave before its end."""

from __future__ import annotations

from typing import Final

from dsched.scheduler.core import hold, lifecycle
from dsched.scheduler.core.draft import Draft, insert
from dsched.scheduler.core.event import Change
from dsched.scheduler.core.feasible import lasting
from dsched.scheduler.core.hold import Hold
from dsched.scheduler.core.snapshot import After, Budget, Job, LedgerEntry
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import HOUR, MINUTE, SECOND, Charge, Instant, MicroUsdPerHour, Millis, charge
from dsched.scheduler.core.work import timely

AGAIN: Final = Millis(MINUTE)  # market: a job that found no other place looks again after this
LAST: Final = Millis(10 * SECOND)  # wall, beside the drain: then a job leaves though it has no other place yet


def book(draft: Draft) -> None:
    """Every hold, every whole hour of the market's clock, used or not; the rest of it when it ends.

    Hours in which no daemon ran are made up for. A hold is paid for from the hour in which it was first seen.
    """
    for one in draft.policy.held:
        now = draft.now.market
        hour = Instant(now - now % HOUR)
        upto = hour if one.end is None else one.end if one.end <= now else hour
        since = draft.state.sunk.get(one.name, max(hour, one.start or hour))
        if one.name not in draft.state.sunk and one.at(now):
            draft.learn(draft.state.sunk, one.name, since)
        if upto > since and one.name in draft.state.sunk:
            _book(draft, one, since, upto)


def _book(draft: Draft, one: Hold, since: Instant, upto: Instant) -> None:
    rate = MicroUsdPerHour(one.price * one.limit)
    owed = charge(rate, Millis(upto - since))
    entry = LedgerEntry(
        node=f"{hold.KIND}/{one.name}",
        job="",
        budget=hold.BUDGET,
        pool=one.pattern,
        kind=hold.KIND,
        rate=rate,
        on_demand=None,
        start=since,
        end=upto,
        source=f"settings: {one.limit} held as {one.name}",
        quoted=since,
        owed=owed,
        baseline=Charge(0),  # nobody would have held it on demand; what its use saves stands beside the use
    )
    budget = draft.state.budgets.get(hold.BUDGET)
    spent = insert("budget", hold.BUDGET, Budget(name=hold.BUDGET, spent=owed))
    if budget is not None:
        spent = Change("budget", hold.BUDGET, {"spent": Charge(budget.spent + owed)})
    draft.learn(draft.state.sunk, one.name, upto)
    draft.say("ledger.booked", insert("ledger", f"{entry.node}/{since}/{entry.kind}", entry), spent, node=entry.node)


def watch(draft: Draft) -> None:
    """Move the jobs whose hold ends: first look for another place while they work on, at last just leave."""
    for name in sorted(draft.state.active) if any(one.end is not None for one in draft.policy.held) else ():
        job = draft.state.jobs[name]
        if job.state is JobState.RUNNING:
            _watch(draft, job)


def _watch(draft: Draft, job: Job) -> None:
    state, now, policy = draft.state, draft.now.market, draft.policy
    pools = {node.pool.id for n in job.nodes if (node := state.nodes.get(n)) is not None}
    ends = [(offer.until, offer) for id in pools if (offer := state.offers.get(id)) and offer.until is not None]
    if not ends:
        return
    until, offer = min(ends, key=lambda one: one[0])
    why = f"{hold.ENDS}: what is held at {offer.pool.id} ends in {lasting(max(0, until - now))}"
    last = round((job.spec.drain + LAST) * state.scale)
    if until - now <= last and not job.next_nodes:
        lifecycle.drain(draft, job, After.MOVE, why)
    elif until - now <= hold.lead(offer.boot, policy.restart, state.scale) and _may_look(draft, job):
        draft.learn(state.said, job.id, draft.now.market)
        draft.job(job, "migrating", after=After.MOVE, why=why)
        state.dirty = True


def _may_look(draft: Draft, job: Job) -> bool:
    """A job with a deadline has gone only where it can end: it looks again once it must leave."""
    looked = draft.state.said.get(job.id)
    patient = looked is not None and draft.now.market - looked < AGAIN
    return job.after is After.NOTHING and not timely(job) and not patient
