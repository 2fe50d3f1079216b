"""What would have to change for another decision: the stored one made again, with one number moved at a time.

The policy is asked as it was, then with a dearer target, a cheaper rival, a stormier target, and an earlier or later
deadline. Where the answer changes is found by bisection, so the numbers are the policy's own and no second theory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from dsched.scheduler.core.deadline.decide import decide
from dsched.scheduler.core.deadline.view import Decision, Observation, Option
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.timely.rule import Terms, rule_for

HALVINGS: Final = 12  # of the logarithm of a factor of up to PRICE_MAX: to a tenth of a per cent
PRICE_MAX: Final = 16.0  # times; beyond that nobody asks
HAZARD_MAX: Final = 64.0
RIVALS: Final = 2  # of the others, those that the policy values next


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """One number, its value, and the value at which the decision becomes another one."""

    what: str  # "price" ($/h), "hazard" (factor on the age law), "deadline" (market s)
    option: str  # "" for the deadline
    now: float
    at: float
    then: str | None  # the target there; None: it waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    decision: Decision
    flips: tuple[Flip, ...]


def again(seen: Observation, terms: Terms, policy: Policy, *, scale: float) -> Again:
    """Make the decision again, and find what flips it. Pure: the same input gives the same answer.

    Raises ValueError for terms that do not fit what was seen.
    """
    judge = rule_for(seen, policy, terms, scale)

    def target(observation: Observation) -> str | None:
        return decide(judge, observation).target

    made = decide(judge, seen)
    found = [*_options(seen, made, target), *_deadline(seen, made.target, target)]
    return Again(decision=made, flips=tuple(flip for flip in found if flip is not None))


Ask = Callable[[Observation], str | None]


def _options(seen: Observation, made: Decision, target: Ask) -> list[Flip | None]:
    chosen = next((o for o in seen.options if o.id == made.target), None)
    flips: list[Flip | None] = []
    if chosen is not None:
        flips.append(_scaled(seen, chosen, "price", PRICE_MAX, made.target, target))
        if chosen.market is Market.SPOT:
            flips.append(_scaled(seen, chosen, "hazard", HAZARD_MAX, made.target, target))
    rivals = _rivals(seen, made)
    return [*flips, *(_scaled(seen, rival, "price", 1.0 / PRICE_MAX, made.target, target) for rival in rivals)]


def _rivals(seen: Observation, made: Decision) -> Sequence[Option]:
    """The others that can be had, by what the policy reckons and then by price."""
    others = [option for option in seen.options if option.id != made.target and option.up is not False]

    def order(option: Option) -> tuple[float, float]:
        cost = made.why.costs.get(option.id, math.nan)
        return (cost if math.isfinite(cost) else math.inf), option.price / option.speed

    return sorted(others, key=order)[:RIVALS]


def _scaled(seen: Observation, option: Option, what: str, most: float, before: str | None, target: Ask) -> Flip | None:
    """The smallest factor, up to `most` (or down to it), on a number of an option that changes the answer."""
    value: float = getattr(option, what)

    def at(factor: float) -> str | None:
        moved = replace(option, **{what: value * factor})  # type: ignore[arg-type]
        return target(replace(seen, options=[moved if o.id == option.id else o for o in seen.options]))

    if value <= 0 or at(most) == before:
        return None
    same, other = 0.0, math.log(most)
    for _ in range(HALVINGS):
        middle = (same + other) / 2
        if at(math.exp(middle)) == before:
            same = middle
        else:
            other = middle
    factor = math.exp(other)
    return Flip(what=what, option=option.id, now=value, at=value * factor, then=at(factor))


def _deadline(seen: Observation, before: str | None, target: Ask) -> list[Flip | None]:
    """Earlier, down to what the work alone takes, and later, up to three times the time that is left."""
    left = seen.job.deadline - seen.now
    fastest = max(option.speed for option in seen.options)
    return [
        _shifted(seen, max(0.0, seen.job.left / fastest) - left, before, target),
        _shifted(seen, 2.0 * left, before, target),
    ]


def _shifted(seen: Observation, most: float, before: str | None, target: Ask) -> Flip | None:
    def at(shift: float) -> str | None:
        return target(replace(seen, job=replace(seen.job, deadline=seen.job.deadline + shift)))

    if at(most) == before:
        return None
    same, other = 0.0, most
    for _ in range(HALVINGS):
        middle = (same + other) / 2
        if at(middle) == before:
            same = middle
        else:
            other = middle
    return Flip(what="deadline", option="", now=seen.job.deadline, at=seen.job.deadline + other, then=at(other))
