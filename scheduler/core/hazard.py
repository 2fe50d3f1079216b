"""How often a pool takes a node back: somebody's word at first, our own evidence more and more."""

from __future__ import annotations

import math

from dsched.scheduler.core.market import Market, Offer
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.snapshot import PoolMemory
from dsched.scheduler.core.units import HOUR, Millis


def posterior(prior: float, weight: float, interruptions: int, exposure: Millis) -> float:
    """The mean rate per hour after `interruptions` in `exposure`, the prior being worth `weight` hours of watching.

    Gamma prior, Poisson events: (prior * weight + interruptions) / (weight + exposure). Raises ValueError unless
    `weight` is positive and the rest is not negative.
    """
    if weight <= 0 or min(prior, interruptions, exposure) < 0:
        raise ValueError(f"not a rate: prior {prior}, weight {weight} h, {interruptions} events in {exposure} ms")
    return (prior * weight + interruptions) / (weight + exposure / HOUR)


def per_node(offer: Offer, memory: PoolMemory | None, policy: Policy) -> float:
    """Interruptions and failures of one node per market hour."""
    seen = (memory.interruptions, Millis(max(0, memory.exposure))) if memory else (0, Millis(0))
    return policy.hazard_failure + posterior(_prior(offer, policy), policy.hazard_weight, *seen)


def _prior(offer: Offer, policy: Policy) -> float:
    """The provider's word where it is a rate at all, else what such a market is known for."""
    if offer.hazard is not None and math.isfinite(offer.hazard) and offer.hazard >= 0:
        return offer.hazard
    return policy.hazard_spot if offer.pool.market is Market.SPOT else 0.0
