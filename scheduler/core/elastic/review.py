"""Grow while capacity is cheap, shrink while it is dear: the size of a running gang, looked at again and again.

Work done now is work that need not be done later at the usual price. So a gang of some size earns, per hour,

    (work it does in that hour) x (what a reference hour usually costs) - (what the gang costs in that hour)

and the size that earns most is wanted. At the usual price that is the cheapest size per work; below it a larger one. A
change pays for itself only if what it earns while the price lasts exceeds the changeover and a margin, and no gang is
changed twice within DWELL: prices that swing do not make gangs swing. Jobs of which a deadline policy decides are left
to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from heapq import nsmallest
from typing import Final, NamedTuple

from dsched.scheduler.core.asking import ask
from dsched.scheduler.core.draft import Draft
from dsched.scheduler.core.elastic.account import account
from dsched.scheduler.core.elastic.keep import own, with_own
from dsched.scheduler.core.elastic.options import Choice, options, paid
from dsched.scheduler.core.gang import placement
from dsched.scheduler.core.market import Market, Offer
from dsched.scheduler.core.placement import Question
from dsched.scheduler.core.snapshot import ACTIVE, After, Job, Usual
from dsched.scheduler.core.taking import take
from dsched.scheduler.core.turns import RESIZED, works
from dsched.scheduler.core.units import HOUR, MICRO, MINUTE, SECOND, Instant, Millis

DWELL: Final = Millis(30 * MINUTE)  # market, between two changes of one gang
LASTS: Final = 6.0  # market hours that a price is expected to hold: AWS zones change theirs 40 to 190 times in 45 days
MARGIN: Final = 0.1  # of the gang's own cost in that time: an estimate must be better than this to act on
USUAL_OVER: Final = 24.0  # hours over which a price becomes the usual one
REVIEWS_MAX: Final = 4  # gangs looked at in one tick, each in some milliseconds; the rest waits for the next


class Change(NamedTuple):
    """A better size, with its reason."""

    choice: Choice
    why: str


def watch_price(known: Usual | None, offer: Offer, now: Instant) -> Usual | None:
    """The usual price after one more look; None: no price is known yet."""
    if offer.quote is None:
        return known
    if known is None:
        return Usual(float(offer.quote.price), now)
    share = 1.0 - math.exp(-max(0, now - known.at) / HOUR / USUAL_OVER)
    return Usual(known.price + share * (offer.quote.price - known.price), now)


def watch_prices(draft: Draft, offers: Mapping[str, Offer]) -> None:
    """Remember what spot pools usually cost; others have a list price."""
    usual = draft.state.usual
    for id, offer in offers.items():
        if offer.pool.market is Market.SPOT:
            seen = watch_price(usual.get(id), offer, draft.now.market)
            if seen is not None:
                draft.learn(usual, id, seen)


def review(draft: Draft) -> None:
    """Look at running elastic gangs whose turn it is, and resize those for which it pays."""
    state, now = draft.state, draft.now.market
    jobs = [state.jobs[name] for _, name in nsmallest(REVIEWS_MAX, _due(draft))]
    question: Question | None = None
    for job in jobs:
        question = question or ask(state, jobs, draft.policy, draft.now)  # it sums up all nodes: once, if none changes
        changed = _review(draft, job, question)
        question = None if changed else question
        draft.learn(state.reviewed, job.id, Instant(now + (DWELL if changed else RESIZED)))


def _due(draft: Draft) -> list[tuple[Instant, str]]:
    """Those that can be resized now; the others come again later, or when they run again."""
    state, now = draft.state, draft.now.market
    found = []
    for at, name in [(at, name) for name, at in state.reviewed.items() if at <= now]:
        job = state.jobs.get(name)
        if job is not None and works(job):
            found.append((at, name))
        else:
            active = job is not None and job.state in ACTIVE
            draft.learn(state.reviewed, name, Instant(now + RESIZED) if active else None)
    return found


def _review(draft: Draft, job: Job, question: Question) -> bool:
    state = draft.state
    nodes = own(state, job)
    if len(nodes) < len(job.nodes) or not nodes:
        return False
    question = with_own(question, state, job)
    found = [
        choice
        for choice in options(job, question, draft.policy, draft.now, within=nodes[0].pool.id)
        if choice.up and paid(job, choice, question, draft.policy)
    ]
    usual = state.usual.get(nodes[0].pool.id)
    change = better(found, len(nodes), usual)
    if change is None:
        return False
    _resize(draft, job, question, change)
    return True


def better(found: list[Choice], nodes: int, usual: Usual | None) -> Change | None:
    """The size of the same pool that a gang of `nodes` should change to; None: it stays. Dollars and market hours."""
    now = next((choice for choice in found if choice.nodes == nodes), None)
    if now is None:
        return None
    per_node = now.value.price / now.nodes
    dearness = usual.price / per_node if usual is not None and per_node > 0 else 1.0
    worth = min(choice.value.per_useful_hour for choice in found) / MICRO * dearness  # $ per reference hour, usually

    def earns(choice: Choice) -> float:
        return choice.speed * choice.value.goodput * worth - choice.price

    best = max(found, key=lambda choice: (earns(choice), -choice.nodes))
    left = LASTS if now.value.hours is None else min(LASTS, now.value.hours)
    gain = (earns(best) - earns(now)) * left
    cost = best.changeover * SECOND / HOUR * best.price + MARGIN * now.price * left
    if best.nodes == now.nodes or gain <= cost:
        return None
    verb = "grows" if best.nodes > now.nodes else "shrinks"
    price = f"{1 / dearness - 1:+.0%} against its usual price" if usual is not None else "as usual"
    why = f"{verb} from {now.nodes} to {best.nodes} nodes: {price}; ${gain:.2f} gained for ${cost:.2f}"
    return Change(best, why)


def _resize(draft: Draft, job: Job, question: Question, change: Change) -> None:
    choice = change.choice
    job = draft.job(job, "resizes", why=change.why, after=After.MOVE)
    chosen = placement(job, choice.pool, choice.value, question.idle.get(choice.pool.id, ()), question.scale)
    take(draft, job, chosen, account(job, choice, change.why, question, draft.policy, draft.now))
