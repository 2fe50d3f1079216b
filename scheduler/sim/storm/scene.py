"""Where a storm happens: four zones that sell one shape, and people who want it in all the ways that matter."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any, Final

from dsched.scheduler.core.hardware import Accelerator, Shape
from dsched.scheduler.core.job import Need, Spec
from dsched.scheduler.core.market import Market, Offer, Pool, Quote
from dsched.scheduler.core.units import HOUR, MINUTE, Instant, Millis, price, usd

CLOUD: Final = "local"
ZONES: Final = ("us-east-1a", "us-east-1b", "us-west-2b", "eu-west-4a")
CALM: Final = 10.0  # dollars per hour when nothing goes wrong
PRICES: Final = (10.0, 12.0, 20.0)
ON_DEMAND: Final = 98.32
REFUSED: Final = Millis(30_000)  # wall: for so long a pool that refused is not to be asked

_H100: Final = Accelerator(
    name="H100", memory_gib=80, bandwidth_gb_s=3350, bf16_tflops=989.0, fp8_tflops=1979.0, tdp_watts=700
)
_SHAPE: Final = Shape(name="p5.48xlarge", accelerator=_H100, gpus=8, vcpus=192, memory_gib=2048)


def pool(zone: str) -> Pool:
    return Pool(CLOUD, zone.rpartition("-")[0], zone, _SHAPE.name, Market.SPOT)


def offer(zone: str, dollars: float, *, free: int, at: Instant) -> Offer:
    return Offer(
        pool=pool(zone),
        shape=_SHAPE,
        quote=Quote(price=price(dollars), at=at, source="storm"),
        on_demand=price(ON_DEMAND),
        free=free,
        hazard=0.05,
        notice=Millis(120_000),
    )


def wish(rng: Random, now: Instant) -> Spec:
    """A job with some of everything that a spec may ask for."""
    pick = rng.choice
    need = Need(accelerators=("H100",), gpus_min=pick([8, 16, 16]), gpus_max=16)
    more: dict[str, Any] = {"priority": pick([0, 0, 1]), "retries": pick([1, 4]), "retry_on": pick([(), (1, -9)])}
    if rng.random() < 0.2:
        more |= {"cost_max": usd(pick([1, 30]))}
    if rng.random() < 0.2:
        more |= {"duration_max": Millis(pick([2, 60]) * MINUTE)}
    if rng.random() < 0.2:
        more |= {"duration": HOUR, "deadline": Instant(now + pick([1, 2, 5]) * HOUR)}
    return replace(Spec(name="moe", run="train", need=need), **more)
