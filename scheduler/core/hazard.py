"""How often a pool takes a node back: a law over its age, a word of the provider's, and our own evidence.

Spot capacity that has been there for long stays for long: the chance of its end falls with its age, about 0.7 / age per
hour (agelaw.py has the curve and its source). What we have seen of one pool is a factor on that: Gamma prior,
Poisson events, both forgotten at the same rate, so that a stormy week is over some time.

    rate per hour = usual rate (the law at the pool's age, or the provider's word) * (seen + w) / (expected + w)

`seen` counts interruptions of our machines there, `expected` how many the usual rate would have brought in their lives.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from dsched.scheduler.core import agelaw
from dsched.scheduler.core.market import Advice, Market, Offer
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.snapshot import PoolMemory, Streak
from dsched.scheduler.core.units import HOUR, SECOND, Instant, Millis

AHEAD: Final = Millis(4 * HOUR)  # the usual rate is the mean over the next hours: machines are held for about so long
UNSEEN: Final = Millis(HOUR)  # the age of a pool of which nothing is known: there the law is at its mean over all pools
ONE_BLOW: Final = Millis(
    10 * 60 * SECOND
)  # interruptions of one pool within this are one: its machines share their fate
ADVICE_MIN, ADVICE_MAX = 0.25, 4.0  # the most that words alone may move the law: factors of single zones differ so
SCORES: Final = (1, 10)  # AWS placement scores
CLASSES: Final = (0.5, 0.75, 1.0, 1.5, 2.0)  # Spot Advisor's classes of interruption, rarest first


def factor(seen: float, expected: float, weight: float) -> float:
    """The posterior mean of a pool's factor on the usual rate, the prior being worth `weight` expected interruptions.

    Raises ValueError unless `weight` is positive and the rest is not negative.
    """
    if not (weight > 0 and min(seen, expected) >= 0 and math.isfinite(seen + expected)):
        raise ValueError(f"not a rate: {seen} interruptions where {expected} were expected, weight {weight}")
    return (seen + weight) / (expected + weight)


def evidence(memory: PoolMemory | None, policy: Policy, now: Instant) -> tuple[float, float]:
    """Interruptions seen and expected, less what has been forgotten until now."""
    if memory is None:
        return 0.0, 0.0
    kept = 0.5 ** (max(0, now - memory.aged) / policy.hazard_half_life)
    return memory.seen * kept, memory.expected * kept


def remembered(memory: PoolMemory, seen: float, expected: float, policy: Policy, now: Instant) -> PoolMemory:
    """The memory with new evidence, the old aged to now."""
    old = evidence(memory, policy, now)
    aged = max(now, memory.aged)
    return replace(memory, seen=old[0] + seen, expected=old[1] + max(0.0, expected), aged=Instant(aged))


def per_node(offer: Offer, memory: PoolMemory | None, policy: Policy, now: Instant) -> float:
    """Interruptions and failures of one node per market hour, over the next hours."""
    return policy.hazard_failure + _usual(offer, policy) * factor(*evidence(memory, policy, now), policy.hazard_weight)


def chance(
    offer: Offer, memory: PoolMemory | None, policy: Policy, *, streak: Streak | None, now: Instant, hours: float
) -> float:
    """The probability, 0..1, that a node there is interrupted within so many market hours."""
    learned = factor(*evidence(memory, policy, now), policy.hazard_weight)
    if offer.pool.market is not Market.SPOT:
        return -math.expm1(-policy.hazard_failure * hours)
    old = age(streak, now)
    ahead = _accrued(old + round(hours * HOUR)) - _accrued(old)
    return -math.expm1(-ahead * _relative(offer, streak, now) * learned)


def relative(
    offer: Offer | None, memory: PoolMemory | None, streak: Streak | None, policy: Policy, now: Instant
) -> float:
    """The pool's factor on the age law, as deadline policies want it: words and evidence together."""
    worded = 1.0 if offer is None else _relative(offer, streak, now)
    learned = factor(*evidence(memory, policy, now), policy.hazard_weight)
    return min(agelaw.FACTOR_MAX, max(agelaw.FACTOR_MIN, worded * learned))


def presumed(offer: Offer, streak: Streak | None, now: Instant) -> Offer:
    """The offer with the law's rate at its pool's age, where the provider tells none."""
    if offer.pool.market is not Market.SPOT or (_told(offer) and not offer.presumed):
        return offer
    return replace(offer, hazard=advised(offer.advice) * mean_rate(age(streak, now), AHEAD), presumed=True)


def expected(offer: Offer | None, streak: Streak | None, launched: Instant, ended: Instant) -> float:
    """The interruptions that the usual rate would have brought in one node's life, without what was learned since."""
    if offer is None or offer.pool.market is not Market.SPOT or ended <= launched:
        return 0.0
    rose = None if streak is None else streak.since if streak.up else streak.rose
    begun = launched if rose is None else min(rose, launched)
    return (_accrued(ended - begun) - _accrued(launched - begun)) * _relative(offer, streak, ended)


def age(streak: Streak | None, now: Instant) -> Millis:
    """How long a pool has been up, as far as anybody saw."""
    if streak is None:
        return UNSEEN
    return Millis(max(0, now - streak.since)) if streak.up else Millis(0)


def told(streaks: Mapping[str, Streak], pool: str, *, up: bool, now: Instant) -> Streak:
    """The pool's streak after it was seen up or down. One that was never seen before is taken to be UNSEEN old."""
    known = streaks.get(pool)
    if known is None:
        return Streak(up=up, since=Instant(now - UNSEEN))
    return known if known.up == up else Streak(up=up, since=now, rose=known.since if known.up else None)


def mean_rate(old: Millis, ahead: Millis) -> float:
    """The law's mean rate per hour over the time ahead of a pool that is so old."""
    return (_accrued(old + ahead) - _accrued(old)) / (ahead / HOUR)


def advised(advice: Advice | None) -> float:
    """What a provider's hints make of the law: 1 where there are none.

    An expected uptime is compared with the law's mean; the others are ranks, not rates, and move the law by at most two
    either way: a placement score or an obtainability in the middle says nothing.
    """
    if advice is None:
        return 1.0
    found = 1.0
    if advice.uptime is not None and advice.uptime > 0:
        found *= HOUR / advice.uptime / mean_rate(UNSEEN, AHEAD)
    if advice.score is not None:
        low, high = SCORES
        found *= 2.0 ** (1.0 - 2.0 * (min(high, max(low, advice.score)) - low) / (high - low))
    if advice.obtainability is not None and math.isfinite(advice.obtainability):
        found *= 2.0 ** (1.0 - 2.0 * min(1.0, max(0.0, advice.obtainability)))
    if advice.interruption_class is not None:
        found *= CLASSES[min(len(CLASSES) - 1, max(0, advice.interruption_class))]
    return min(ADVICE_MAX, max(ADVICE_MIN, found))


def _told(offer: Offer) -> bool:
    return offer.hazard is not None and math.isfinite(offer.hazard) and offer.hazard >= 0


def _usual(offer: Offer, policy: Policy) -> float:
    """The provider's word where it is a rate at all, else what such a market is known for."""
    if offer.hazard is not None and _told(offer):
        return offer.hazard
    return policy.hazard_spot if offer.pool.market is Market.SPOT else 0.0


def _relative(offer: Offer, streak: Streak | None, now: Instant) -> float:
    """The factor on the law that the usual rate stands for: the provider's word over the law at the pool's age."""
    if offer.presumed or not _told(offer) or offer.hazard is None:
        return advised(offer.advice)
    at = _LAW[bisect_right(_EDGES, age(streak, now)) - 1]
    return min(agelaw.FACTOR_MAX, max(agelaw.FACTOR_MIN, offer.hazard / at))


def _accrued(age: int) -> float:
    """What the law expects from age 0 on."""
    at = bisect_right(_EDGES, age) - 1
    return _REACHED[at] + _LAW[at] * (age - _EDGES[at]) / HOUR


_EDGES: Final = tuple(round(edge * SECOND) for edge in agelaw.EDGES[:-1])  # market ms
_LAW: Final = agelaw.UP_PER_HOUR
_REACHED: Final = agelaw.reached(agelaw.UP_PER_HOUR)
