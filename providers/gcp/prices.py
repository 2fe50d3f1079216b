"""What a machine costs, put together from the public price list: cores, memory, accelerators and bundled disks.

The list has no row for a machine type. Its rows are told apart by their descriptions alone, as every other tool does
that reads it (gpuhunt, the pricing calculators): "Spot Preemptible A3 Instance Core running in Americas". A machine
is priced when every part of it is; a missing part is a missing price, never a cheaper machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from dsched.providers.base import NOTHING, Known
from dsched.providers.gcp.names import PROVIDER, region
from dsched.providers.gcp.rows import MachineType
from dsched.scheduler.core.market import Quote
from dsched.scheduler.core.units import Instant, MicroUsdPerHour

Json = Mapping[str, Any]

HOURS_PER_MONTH: Final = 730  # as Google's own calculator has it
PARTITION_GIB: Final = 375  # of bundled local SSD
MIB: Final = 1_024
SOURCE: Final = "Cloud Billing Catalog"


class Usage(StrEnum):
    ON_DEMAND = "on_demand"
    SPOT = "spot"
    CUD_1Y = "cud_1y"
    CUD_3Y = "cud_3y"


_USAGES: Final = {
    "OnDemand": Usage.ON_DEMAND,
    "Preemptible": Usage.SPOT,
    "Commit1Yr": Usage.CUD_1Y,
    "Commit3Yr": Usage.CUD_3Y,
}
_NOT_OURS: Final = re.compile(
    r"Sole Tenancy|Custom|Extended|DWS|Defined Duration|Calendar Mode|Capacity Optimized|Reserved|Premium|suspended"
)
_PLACE: Final = re.compile(r" (running )?in .*$")
_COMMITMENT: Final = re.compile(r"^Commitment v\d: ")
_SPOT: Final = re.compile(r"^Spot Preemptible | attached to Spot Preemptible VMs$")
_HOST: Final = re.compile(r"([A-Z][A-Za-z0-9]*) (?:AMD )?(?:Instance )?(Core|Cpu|CPU|Ram|RAM)")
_CHIPS: Final = {  # description -> accelerator type of the API
    "Nvidia Tesla A100 GPU": "nvidia-tesla-a100",
    "Nvidia Tesla A100 80GB GPU": "nvidia-a100-80gb",
    "Nvidia H100 80GB GPU": "nvidia-h100-80gb",
    "Nvidia H100 80GB Plus GPU": "nvidia-h100-mega-80gb",
    "Nvidia H100 80GB Mega GPU": "nvidia-h100-mega-80gb",
    "Nvidia H100 Mega 80GB GPU": "nvidia-h100-mega-80gb",
    "Nvidia H200 141GB GPU": "nvidia-h200-141gb",
    "H200 141GB GPU": "nvidia-h200-141gb",
    "Nvidia L4 GPU": "nvidia-l4",
    "A4 Nvidia B200 (1 gpu slice)": "nvidia-b200",
    "TpuV5e": "tpu-v5e",
    "TpuV5p": "tpu-v5p",
    "TpuV6e": "tpu-v6e",
}
_WHOLE: Final = ("nvidia-b200", "tpu-v5e", "tpu-v5p", "tpu-v6e")  # the accelerator's price holds the host's share
_FAMILY: Final = {"a3-megagpu": "A3PLUS", "a3-ultragpu": "A3ULTRA"}  # where it is not the first part of the name
_DISK: Final = "SSD backed Local Storage"
_UNITS: Final = {"h": 1.0, "GiBy.h": 1.0, "GiBy.mo": 1.0 / HOURS_PER_MONTH}

Part = tuple[str, str]  # ("core", "A3"), ("ram", "A3"), ("chip", "nvidia-h100-80gb"), ("disk", "")


@dataclass(frozen=True, slots=True)
class Book:
    """Prices of parts, each in dollars per hour and unit, and when they were read."""

    rates: Mapping[tuple[Part, str, Usage], float]  # part, region, usage
    at: Instant
    known: Known = NOTHING  # prices for what the list does not tell

    def quote(self, kind: MachineType, usage: Usage) -> Quote | None:
        """Of one machine in its zone, with source and age; None: nobody knows it."""
        where = region(kind.zone)
        if (told := self.price(kind, where, usage)) is not None:
            return Quote(price=told, at=self.at, source=SOURCE)
        return self.known.quote(PROVIDER, where, kind.zone, kind.name, usage.value.replace("_", "-"))

    def price(self, kind: MachineType, region: str, usage: Usage) -> MicroUsdPerHour | None:
        """Of one machine; None: a part of it has no price there."""
        total = 0.0
        for part, amount in parts(kind):
            rate = self.rates.get((part, region, usage))
            if rate is None and part[0] == "disk" and usage in (Usage.CUD_1Y, Usage.CUD_3Y):
                rate = self.rates.get((part, region, Usage.ON_DEMAND))  # not every commitment covers disks
            if rate is None:
                return None
            total += amount * rate
        return MicroUsdPerHour(round(total * 1_000_000)) if total > 0 else None


def book(skus: Iterable[Json], regions: Iterable[str], at: Instant) -> Book:
    """Read the list. Rows that price nothing of ours are passed over; of two that agree in all the dearer counts."""
    wanted, rates = set(regions), dict[tuple[Part, str, Usage], float]()
    for sku in skus:
        places = wanted.intersection(sku.get("serviceRegions", ()))
        known = _part(sku) if places else None
        rate = _rate(sku) if known else None
        if known is None or rate is None:
            continue
        part, usage = known
        for place in places:
            rates[part, place, usage] = max(rate, rates.get((part, place, usage), 0.0))
    return Book(rates, at)


def parts(kind: MachineType) -> list[tuple[Part, float]]:
    """What a machine type is made of, in the units of the list."""
    chip = [(("chip", kind.chip), float(kind.chips))] if kind.chip else []
    if kind.chip in _WHOLE:
        return chip
    family = _family(kind.name)
    host = [(("core", family), float(kind.vcpus)), (("ram", family), kind.memory_mib / MIB)]
    disk = [(("disk", ""), float(kind.disks * PARTITION_GIB))] if kind.disks else []
    return [*host, *chip, *disk]


def _family(name: str) -> str:
    first = name.rpartition("-")[0]
    return _FAMILY.get(first, name.partition("-")[0].upper())


def _part(sku: Json) -> tuple[Part, Usage] | None:
    """The part that a row prices. Its description is trusted over its category, which calls B200 spot OnDemand."""
    description = str(sku.get("description", ""))
    usage = _USAGES.get(sku.get("category", {}).get("usageType", ""))
    if usage is None or _NOT_OURS.search(description):
        return None
    words = _COMMITMENT.sub("", _PLACE.sub("", description))
    if _SPOT.search(words):
        words, usage = _SPOT.sub("", words), Usage.SPOT
    if words in _CHIPS:
        return ("chip", _CHIPS[words]), usage
    if words == _DISK:
        return ("disk", ""), usage
    if found := _HOST.fullmatch(words):
        return ("ram" if found[2].lower() == "ram" else "core", found[1].upper()), usage
    return None


def _rate(sku: Json) -> float | None:
    """Dollars per hour and unit; None: sold by another measure, in another currency, or for nothing."""
    for info in sku.get("pricingInfo", ())[-1:]:
        expression = info.get("pricingExpression", {})
        tiers, scale = expression.get("tieredRates", ()), _UNITS.get(expression.get("usageUnit", ""))
        if not tiers or scale is None:
            return None
        price = tiers[-1].get("unitPrice", {})
        amount = int(price.get("units") or 0) + int(price.get("nanos") or 0) / 1e9
        return amount * scale if price.get("currencyCode") == "USD" and amount > 0 else None
    return None
