"""Energy and carbon: what a gang draws, and what that weighs in the objective beside the money that is paid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from dsched.scheduler.core.changeover import FREE, Egress
from dsched.scheduler.core.hardware import Shape
from dsched.scheduler.core.units import MICRO

if TYPE_CHECKING:
    from dsched.scheduler.core.placement import Policy

DRAWN: Final = 0.85  # of the GPUs' rated power while they train; Llama 3 reports 700 W rated and less drawn
HOST: Final = 1.6  # the whole machine against its GPUs: a DGX H100 is rated 10.2 kW for GPUs of 5.6 kW, seldom reached
VCPU_WATTS: Final = 4.0  # of a machine without GPUs, about half of a 400 W socket with 96 threads
PUE: Final = 1.15  # cooling and losses: between AWS's 1.15 (2024) and Google's 1.09 (2024)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is publicly known of places, as data with source and date: providers/catalog/places.toml."""

    egress: Egress = FREE
    carbon: Mapping[str, float] = field(default_factory=dict)  # region -> grams of CO2 per kWh of its grid


NOTHING_KNOWN: Final = Facts()


def watts(shape: Shape, nodes: int) -> float:
    """What `nodes` machines draw while they train, cooling included. An estimate to compare by, not a meter."""
    chip = shape.accelerator
    each = VCPU_WATTS * shape.vcpus if chip is None else chip.tdp_watts * shape.gpus * DRAWN * HOST
    return nodes * each * PUE


def burden(drawn: float, grams: float | None, policy: Policy) -> float:
    """Micro-dollars per hour by the policy's weights. A grid of which nothing is known weighs as the average one."""
    if not policy.energy_price and not policy.carbon_price:
        return 0.0
    per_kwh = policy.energy_price + policy.carbon_price * (GRID if grams is None else grams) / 1e6
    return drawn / 1000.0 * per_kwh * MICRO


GRID: Final = 445.0  # g of CO2 per kWh, the world's average of 2024 (IEA, Electricity 2025)
