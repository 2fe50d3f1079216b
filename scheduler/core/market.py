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

    @property
    def place(self) -> str:
        """What egress and the grid's carbon depend on."""
        return f"{self.provider}/{self.region}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """One price observation. A price that is not known is a missing quote, never 0."""

    price: MicroUsdPerHour  # per instance
    at: Instant  # market time of the observation
    source: str  # "replay:us-east-1a", "DescribeSpotPriceHistory", ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Hints of a provider about a pool's future, each where that provider gives it."""

    score: int | None = None  # AWS GetSpotPlacementScores: 1..10, 10 is best
    obtainability: float | None = None  # GCP advice.capacity: 0..1
    uptime: Millis | None = None  # GCP advice.capacity: how long machines are expected to stay
    interruption_class: int | None = None  # AWS Spot Advisor: 0 (rarest) .. 4


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
    advice: Advice | None = None
    until: Instant | None = None  # market: it is held for us until then; None: nobody ends it
    presumed: bool = False  # `hazard` is our own prior (see hazard.py), not the provider's word
