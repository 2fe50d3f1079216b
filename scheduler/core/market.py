"""The market's words: pool, quote, offer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dsched.scheduler.core.hardware import Shape
from dsched.scheduler.core.units import Instant, MicroUsdPerHour, Millis


class Market(StrEnum):
    SPOT = "spot"
    ON_DEMAND = "on-demand"
    RESERVED = "reserved"


@dataclass(frozen=True, slots=True, order=True)
class Pool:
    """The unit of price, capacity, interruption statistics and cool-down."""

    provider: str  # who sells it to us: "local", "aws", "gcp"
    region: str
    zone: str  # AWS: the zone *id*, names are shuffled per account
    shape: str
    market: Market

    @property
    def id(self) -> str:
        return f"{self.provider}/{self.zone}/{self.shape}/{self.market}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """One price observation. A price that is not known is a missing quote, never 0."""

    price: MicroUsdPerHour  # per instance
    at: Instant  # market time of the observation
    source: str  # "replay:us-east-1a", "DescribeSpotPriceHistory", ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A pool with its price now and what the provider says about it."""

    pool: Pool
    shape: Shape
    quote: Quote | None  # None: no price is known; such an offer is never placed on
    on_demand: MicroUsdPerHour | None  # same shape, same region: the counterfactual
    free: int | None = None  # nodes that can be had now, where the provider tells
    hazard: float | None = None  # interruptions per market hour, the provider's or the prior's word; None: unknown
    notice: Millis = Millis(0)  # warning before an interruption, market's word (120 s AWS, 30 s GCP)
    boot: Millis = Millis(0)  # from launch to agent heard, wall time, typical
