"""What would be decided if something were different: changes of price, capacity, hazard, budget and deadline.

A change is applied to the question, so that the production planner answers it like any other; nothing of it outlives
the answer. Prices are those of one machine. A glob means every pool whose id, zone or region it matches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from dsched.scheduler.core import hazard
from dsched.scheduler.core.market import Market, Offer, Pool, Quote
from dsched.scheduler.core.message import Refusal
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.snapshot import Job, PoolMemory
from dsched.scheduler.core.units import Charge, Instant, MicroUsd, MicroUsdPerHour, Millis, Moment, to_charge

SOURCE: Final = "what-if"  # of a price that nobody quoted
WHERE: Final = "what_if"  # the field of the request


class What(StrEnum):
    """What a change is about."""

    PRICE = "price"
    GONE = "gone"
    DEADLINE = "deadline"
    HAZARD = "hazard"
    BUDGET = "budget"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change, as wire/whatif.py reads it. Of the four values exactly the one that its kind needs is set."""

    text: str  # as it was written, for refusals
    what: What
    of: str = "*"  # a glob over pools, or the name of a budget
    times: float | None = None  # price and hazard: a factor above 0
    price: MicroUsdPerHour | None = None
    after: Millis | None = None  # deadline: so much market time from now
    limit: MicroUsd | None = None  # budget


def applied(
    question: Question,
    changes: Sequence[Change],
    spent: Mapping[str, tuple[Charge, Charge]],
    policy: Policy,
    now: Moment,
) -> Question:
    """The question with these changes, in their order. Raises Refusal for one that would change nothing at all.

    spent: by budget, what was spent and what leases have promised.
    """
    for change in changes:
        if change.what is What.DEADLINE:
            question = replace(question, jobs=tuple(_due(job, change, now) for job in question.jobs))
        elif change.what is What.BUDGET:
            question = _budgeted(question, change, spent)
        else:
            question = _in_the_market(question, change, policy, now)
    return question


def _due(job: Job, change: Change, now: Moment) -> Job:
    return replace(job, spec=replace(job.spec, deadline=Instant(now.market + (change.after or 0))))


def _budgeted(question: Question, change: Change, spent: Mapping[str, tuple[Charge, Charge]]) -> Question:
    """A limit leaves what is neither spent nor promised."""
    drawn = {job.spec.budget for job in question.jobs}
    known = sorted({*spent, *drawn})
    if change.of not in known:
        raise _useless(change, f"no budget is named {change.of!r}; there are {', '.join(known)}", "dsched budget")
    if change.of not in drawn:
        raise _useless(change, f"the job draws on budget {', '.join(sorted(drawn))}", "change the one it draws on")
    used = sum(spent.get(change.of, ()))
    room = Charge(to_charge(change.limit or MicroUsd(0)) - used)
    return replace(question, room={**question.room, change.of: room})


def _in_the_market(question: Question, change: Change, policy: Policy, now: Moment) -> Question:
    hit = [id for id, offer in question.offers.items() if _meant(change, offer.pool)]
    if not hit:
        raise _useless(change, f"no pool, zone or region on offer matches {change.of!r}", "dsched prices lists them")
    match change.what:
        case What.GONE:
            offers = {id: replace(question.offers[id], free=0) for id in hit}
            idle = {id: nodes for id, nodes in question.idle.items() if id not in offers}
            return replace(question, offers={**question.offers, **offers}, idle=idle)
        case What.HAZARD:
            spot = [id for id in hit if question.offers[id].pool.market is Market.SPOT]
            if not spot:
                raise _useless(change, f"{change.of!r} matches no spot pool, and only spot is taken back", "name spot")
            memories = {id: _stormier(question.pools.get(id), id, change.times or 1.0, policy, now) for id in spot}
            return replace(question, pools={**question.pools, **memories})
        case _:
            repriced = {id: _repriced(offer, change, now) for id, offer in question.offers.items()}
            return replace(question, offers=repriced)


def _meant(change: Change, pool: Pool) -> bool:
    names = (pool.id, f"{pool.provider}/{pool.zone}", pool.zone, f"{pool.provider}/{pool.region}", pool.region)
    return any(fnmatchcase(name, change.of) for name in names)


def _repriced(offer: Offer, change: Change, now: Moment) -> Offer:
    """At the changed price; what it would cost on demand follows, where on-demand capacity there is meant as well."""
    beside = offer.on_demand
    if beside is not None and _meant(change, replace(offer.pool, market=Market.ON_DEMAND)):
        beside = _changed(beside, change)
    quote = offer.quote
    if _meant(change, offer.pool):
        if change.price is not None:
            quote = Quote(price=change.price, at=now.market, source=SOURCE)
        elif quote is not None:
            quote = replace(quote, price=_changed(quote.price, change))
    return replace(offer, quote=quote, on_demand=beside)


def _changed(price: MicroUsdPerHour, change: Change) -> MicroUsdPerHour:
    return change.price if change.price is not None else MicroUsdPerHour(round(price * (change.times or 1.0)))


def _stormier(memory: PoolMemory | None, id: str, times: float, policy: Policy, now: Moment) -> PoolMemory:
    """The memory with evidence that makes the pool's factor exactly so many times what it is now (see hazard.py)."""
    weight, known = policy.hazard_weight, memory or PoolMemory(pool=id)
    seen, expected = hazard.evidence(memory, policy, now.market)
    if times >= 1.0:
        seen = times * (seen + weight) - weight
    else:
        expected = (expected + weight) / times - weight
    return replace(known, seen=seen, expected=expected, aged=now.market)


def _useless(change: Change, why: str, hint: str) -> Refusal:
    return Refusal("E422", f"{change.text}: {why}", hint=hint, where=WHERE)
