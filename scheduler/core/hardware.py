"""What a machine is: accelerators and shapes. The facts live in providers/catalog; here is only their form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# These run programs that were built for them and no others: they are for jobs that name them, never for "any".
BY_NAME: Final = ("TPU-v5e", "TPU-v5p", "TPU-v6e")
_GPUS: Final = ("T4", "V100", "A10G", "L4", "L40S", "A100", "A100-40", "A100-80", "H100", "H200", "B200")
# The names that users write. The catalog has the facts of each; A100 means both of its memories.
ACCELERATORS: Final = (*_GPUS, *BY_NAME)

PCIE_GB_S: Final = 25  # one direction of a PCIe 4 x16 slot in practice


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One GPU model. Peaks are dense (no sparsity), as the vendor's data sheet states them."""

    name: str  # "H100", as users write it
    memory_gib: int
    bandwidth_gb_s: int
    bf16_tflops: float  # fp16 where the chip has no bf16
    fp8_tflops: float | None  # None: the chip has no FP8
    tdp_watts: int
    link_gb_s: int = PCIE_GB_S  # to a neighbour in the node, one direction: NVLink, else PCIe


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """An instance type: what one node of it has."""

    name: str  # "p5.48xlarge"
    accelerator: Accelerator | None  # None: a machine without GPUs
    gpus: int
    vcpus: int
    memory_gib: int
    network_gbit_s: int = 0  # between nodes, all GPUs of one together; 0: not told

    def tflops(self, *, fp8: bool) -> float:
        """The node's peak for ranking: FP8 where the job can use it and the chip has it, else BF16.

        CPUs count 0.05 per vCPU.
        """
        if self.accelerator is None:
            return 0.05 * self.vcpus
        per_gpu = self.accelerator.fp8_tflops if fp8 and self.accelerator.fp8_tflops else self.accelerator.bf16_tflops
        return per_gpu * self.gpus
