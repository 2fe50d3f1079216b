"""Instance types as shapes: what EC2 says of the machine, and what the catalog knows of its accelerator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dsched.providers.catalog import Catalog
from dsched.scheduler.core.hardware import Accelerator, Shape

MIB_PER_GIB: Final = 1_024
_BY_MEMORY: Final = {("A100", 40): "A100-40", ("A100", 80): "A100-80"}  # one name at EC2, two GPUs
_ARCHITECTURES: Final = {"x86_64": "x86_64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class Kind:
    """An instance type that can be sold."""

    shape: Shape
    arch: str  # "x86_64", "arm64"
    markets: frozenset[str]  # as EC2 names them: "spot", "on-demand", "capacity-block"
    efa: int = 0  # interfaces past the kernel's network stack that it can have; 0: it knows none


def kinds_from(rows: list[Mapping[str, Any]], catalog: Catalog) -> dict[str, Kind]:
    """From DescribeInstanceTypes, without what has an accelerator that the catalog does not know, or a part of one."""
    kinds = (_kind(row, catalog) for row in rows)
    return {kind.shape.name: kind for kind in kinds if kind is not None}


def _kind(row: Mapping[str, Any], catalog: Catalog) -> Kind | None:
    gpus, chip = 0, None
    if row.get("GpuInfo") or row.get("NeuronInfo") or row.get("InferenceAcceleratorInfo"):
        if (found := _gpu(row.get("GpuInfo", {}), catalog)) is None:
            return None
        gpus, chip = found
    arch = next((a for a in row["ProcessorInfo"]["SupportedArchitectures"] if a in _ARCHITECTURES), "x86_64")
    shape = Shape(
        name=row["InstanceType"],
        accelerator=chip,
        gpus=gpus,
        vcpus=row["VCpuInfo"]["DefaultVCpus"],
        memory_gib=row["MemoryInfo"]["SizeInMiB"] // MIB_PER_GIB,
        network_gbit_s=_network(row.get("NetworkInfo", {})),
    )
    return Kind(shape, arch, frozenset(row.get("SupportedUsageClasses", ())), _efa(row.get("NetworkInfo", {})))


def _gpu(info: Mapping[str, Any], catalog: Catalog) -> tuple[int, Accelerator] | None:
    """None for what is no whole GPU of one known model."""
    models = info.get("Gpus", ())
    if len(models) != 1 or models[0].get("Count", 0) < 1:
        return None
    name, memory = models[0]["Name"], round(models[0].get("MemoryInfo", {}).get("SizeInMiB", 0) / MIB_PER_GIB)
    chip = catalog.accelerator(_BY_MEMORY.get((name, memory), name))
    return None if chip is None else (models[0]["Count"], chip)


def _efa(info: Mapping[str, Any]) -> int:
    if not info.get("EfaSupported"):
        return 0
    return max(1, int(info.get("EfaInfo", {}).get("MaximumEfaInterfaces", 1)))


def _network(info: Mapping[str, Any]) -> int:
    """All cards together, in Gbit/s; 0: not told."""
    cards = info.get("NetworkCards", ())
    total: float = sum(card.get("PeakBandwidthInGbps", 0.0) for card in cards)
    return round(total)
