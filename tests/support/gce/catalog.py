"""Machine types and price list of the fake: the few that tests need, in the shape and words of the real APIs.

Prices are public list prices of us-central1; whole machines come to what the price list says of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

Json = dict[str, Any]

_SHAPES: Final = {  # name -> vCPUs, MiB, accelerator type, count, bundled local SSD partitions
    "a2-highgpu-1g": (12, 87_040, "nvidia-tesla-a100", 1, 0),
    "a2-ultragpu-1g": (12, 174_080, "nvidia-a100-80gb", 1, 1),
    "a3-highgpu-8g": (208, 1_916_928, "nvidia-h100-80gb", 8, 16),
    "a4-highgpu-8g": (224, 4_063_232, "nvidia-b200", 8, 32),
    "g2-standard-4": (4, 16_384, "nvidia-l4", 1, 0),
    "e2-standard-2": (2, 8_192, "", 0, 0),
    "ct6e-standard-4t": (180, 737_280, "", 0, 0),
    "n1-standard-4": (4, 15_360, "", 0, 0),  # sold, but nothing that we offer
}
_OTHERS: Final = {  # the rest of what Google sells with accelerators: for measurements
    **{f"a2-highgpu-{n}g": (12 * n, 87_040 * n, "nvidia-tesla-a100", n, 0) for n in (2, 4, 8)},
    "a2-megagpu-16g": (96, 1_392_640, "nvidia-tesla-a100", 16, 0),
    **{f"a2-ultragpu-{n}g": (12 * n, 174_080 * n, "nvidia-a100-80gb", n, n) for n in (2, 4, 8)},
    **{f"a3-highgpu-{n}g": (26 * n, 239_616 * n, "nvidia-h100-80gb", n, 2 * n) for n in (1, 2, 4)},
    "a3-megagpu-8g": (208, 1_916_928, "nvidia-h100-mega-80gb", 8, 16),
    "a3-ultragpu-8g": (224, 3_022_848, "nvidia-h200-141gb", 8, 32),
    **{
        f"g2-standard-{n}": (n, 4_096 * n, "nvidia-l4", max(1, n // 24 * 2 if n >= 24 else 1), 1)
        for n in (8, 12, 16, 24, 32, 48, 96)
    },
    **{f"ct6e-standard-{n}t": (44 * n, 176_000 * n, "", 0, 0) for n in (1, 8)},
}
_OTHER_RATES: Final = {  # made up: what counts is how many rows there are
    "A3PLUS Instance Core": ("h", 0.03, 0.01, 0.02, 0.013),
    "A3PLUS Instance Ram": ("GiBy.h", 0.003, 0.001, 0.002, 0.001),
    "A3ULTRA Instance Core": ("h", 0.03, 0.01, 0.02, 0.013),
    "A3ULTRA Instance Ram": ("GiBy.h", 0.003, 0.001, 0.002, 0.001),
    "Nvidia H100 80GB Plus GPU": ("h", 9.0, 2.5, 6.5, 4.0),
    "H200 141GB GPU": ("h", 9.5, 3.0, 7.0, 4.5),
}
_RATES: Final = {  # description -> unit, on-demand, spot, committed for a year, for three
    "A2 Instance Core": ("h", 0.031611, 0.01265, 0.019915, 0.011064),
    "A2 Instance Ram": ("GiBy.h", 0.004237, 0.0017, 0.002669, 0.001483),
    "Nvidia Tesla A100 GPU": ("h", 2.933908, 0.88, 1.84836, 1.026868),
    "Nvidia Tesla A100 80GB GPU": ("h", 3.92781, 1.17, 2.47452, 1.37473),
    "A3 Instance Core": ("h", 0.029917, 0.0118, 0.0188, 0.0132),
    "A3 Instance Ram": ("GiBy.h", 0.002606, 0.001, 0.00164, 0.00115),
    "Nvidia H100 80GB GPU": ("h", 9.796551, 2.253, 6.8, 4.3),
    "G2 Instance Core": ("h", 0.024988, 0.01, 0.0157, 0.0112),
    "G2 Instance Ram": ("GiBy.h", 0.002927, 0.00117, 0.00184, 0.0013),
    "Nvidia L4 GPU": ("h", 0.560004, 0.224, 0.3528, 0.252),
    "E2 Instance Core": ("h", 0.021811, 0.0065, 0.0137, 0.0098),
    "E2 Instance Ram": ("GiBy.h", 0.002923, 0.00088, 0.0018, 0.0013),
    "A4 Nvidia B200 (1 gpu slice)": ("h", 16.11, 4.9542, 11.0, 7.2),
    "TpuV6e": ("h", 2.7, 0.59, 1.89, 1.22),
    "SSD backed Local Storage": ("GiBy.mo", 0.08, 0.032, None, None),
}
_NEVER: Final = (  # rows that look like prices of ours and are not
    "A2 Instance Core Sole Tenancy running in Americas",
    "Nvidia H100 80GB GPU DWS Calendar Mode running in Americas",
    "Custom A2 Instance Core running in Americas",
    "Reserved Nvidia L4 GPU in Americas",
)


def machine_types(zones: Iterable[str], names: Iterable[str] = tuple(_SHAPES)) -> dict[str, dict[str, Json]]:
    return {zone: {name: _machine_type(name, zone) for name in names} for zone in zones}


def _machine_type(name: str, zone: str) -> Json:
    cpus, memory, chip, count, disks = (_SHAPES | _OTHERS)[name]
    chips = [{"guestAcceleratorType": chip, "guestAcceleratorCount": count}] if chip else []
    bundled = {"bundledLocalSsds": {"partitionCount": disks, "defaultInterface": "NVME"}} if disks else {}
    return {"name": name, "guestCpus": cpus, "memoryMb": memory, "zone": zone, "accelerators": chips, **bundled}


def every_accelerator() -> tuple[str, ...]:
    """The names of all machine types that come with accelerators."""
    return tuple(name for name, (_, _, chip, *_rest) in (_SHAPES | _OTHERS).items() if chip or name.startswith("ct"))


def skus(regions: Iterable[str], *, factor: float = 1.0, spot: float = 1.0, every: bool = False) -> list[Json]:
    """The list as the Billing Catalog gives it: spot rows of B200 say OnDemand, as the real ones do."""
    where, rows = list(regions), []
    for name, (unit, *prices) in (_RATES | _OTHER_RATES if every else _RATES).items():
        for usage, description, price in zip(_USAGES, _descriptions(name), prices, strict=True):
            if price is not None:
                price *= factor * (spot if usage == "Preemptible" else 1.0)
                told = "OnDemand" if usage == "Preemptible" and "slice" in name else usage
                rows.append(_sku(description, told, unit, price, where))
    return [*rows, *(_sku(name, "OnDemand", "h", 0.000001, where) for name in _NEVER)]


_USAGES: Final = ("OnDemand", "Preemptible", "Commit1Yr", "Commit3Yr")


def _descriptions(name: str) -> tuple[str, ...]:
    committed = name.replace("Instance Core", "Cpu").replace("Instance Ram", "Ram")
    attached = "GPU" in name or "Storage" in name
    spot = f"{name} attached to Spot Preemptible VMs" if attached else f"Spot Preemptible {name}"
    return (
        f"{name} running in Americas",
        f"{spot} running in Americas",
        f"Commitment v1: {committed} in Americas for 1 Year",
        f"Commitment v1: {committed} in Americas for 3 Years",
    )


def _sku(description: str, usage: str, unit: str, price: float, regions: list[str]) -> Json:
    units, nanos = divmod(round(price * 1e9), 1_000_000_000)
    rate = {"startUsageAmount": 0, "unitPrice": {"currencyCode": "USD", "units": str(units), "nanos": nanos}}
    return {
        "description": description,
        "category": {"resourceFamily": "Storage" if "Storage" in description else "Compute", "usageType": usage},
        "serviceRegions": regions,
        "pricingInfo": [{"pricingExpression": {"usageUnit": unit, "tieredRates": [rate]}}],
    }


def region_quotas(limits: Mapping[tuple[str, str], int], region: str, usage: Mapping[str, int]) -> list[Json]:
    return [
        {"metric": metric, "limit": limit, "usage": usage.get(metric, 0)}
        for (where, metric), limit in limits.items()
        if where == region
    ]
