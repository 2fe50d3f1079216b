"""An elastic option as the deadline policy sees it: seconds, dollars, and hazard as a factor on the age law."""

from __future__ import annotations

from dsched.scheduler.core.deadline.view import Option
from dsched.scheduler.core.elastic.options import Choice
from dsched.scheduler.core.placement import Policy


def option(choice: Choice, policy: Policy) -> Option:
    """`age` stays 0, since only the market's history knows it; whoever holds a chronicle replaces it and the hazard."""
    return Option(
        id=choice.id,
        region=f"{choice.pool.provider}/{choice.pool.region}",
        market=choice.pool.market,
        price=choice.price,
        speed=choice.speed,
        up=choice.up,
        hazard=choice.hazard / policy.hazard_spot if policy.hazard_spot else 1.0,
        changeover=choice.changeover,
        egress=choice.egress,
    )
