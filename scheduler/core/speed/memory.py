"""What one GPU of a layout must hold while it trains: weights, gradients, optimizer state, activations.

Weights are kept in bf16 and gradients in bf16; the optimizer's state is spread over the data-parallel group (ZeRO-1),
and where that does not fit, so are weights and gradients (ZeRO-3, FSDP). Activations after Korthikanti et al. 2022
(arXiv 2205.05198) with fused attention: 34 x hidden bytes per token and layer. A pipeline's first stage holds as many
micro-batches as there are stages, so pipelining does not shrink them; tensor parallelism, with sequence parallelism,
does.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from dsched.scheduler.core.hardware import Accelerator
from dsched.scheduler.core.speed.model import Layout, Model

GIB: Final = float(1 << 30)
USABLE: Final = 0.9  # of the card's memory: context, communication buffers, logits and fragmentation take the rest
WEIGHT_BYTES: Final = 2.0
GRADIENT_BYTES: Final = 2.0


class Recompute(StrEnum):
    """Activation checkpointing: what is computed twice instead of kept."""

    NONE = "none"
    CHEAP = "cheap"  # norms, activation functions, up-projections: what costs little time
    FULL = "full"  # every layer keeps its input alone


KEPT: Final = {Recompute.NONE: 34.0, Recompute.CHEAP: 20.0, Recompute.FULL: 2.0}  # bytes per token, layer, hidden unit
AGAIN: Final = {Recompute.NONE: 1.0, Recompute.CHEAP: 1.03, Recompute.FULL: 4.0 / 3.0}  # of the step's compute


class Memory(NamedTuple):
    """Bytes on the fullest GPU."""

    weights: float
    gradients: float
    optimizer: float
    activations: float

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations

    @property
    def words(self) -> str:
        parts = zip(self._fields, self, strict=True)
        return f"{self.total / GIB:,.0f} GiB (" + ", ".join(f"{name} {part / GIB:,.0f}" for name, part in parts) + ")"


def usable(chip: Accelerator) -> float:
    """Bytes. Vendors' gigabytes are taken at their word, as in the catalog."""
    return chip.memory_gib * GIB * USABLE


def local(model: Model, layout: Layout) -> tuple[float, float]:
    """Parameters on one GPU before any sharding over the data-parallel group: shared ones, expert ones."""
    slices = layout.tp * layout.pp
    return model.shared / slices, (model.parameters - model.shared) / (slices * layout.ep)


def needed(model: Model, layout: Layout, recompute: Recompute, *, sharded: bool) -> Memory:
    """Of one micro-batch of one sequence. `sharded`: weights and gradients are spread over the data-parallel group."""
    common, experts = local(model, layout)
    copies = max(1, layout.dp // layout.ep)  # replicas of each expert
    spread = common / layout.dp + experts / copies
    held = spread if sharded else common + experts
    per_layer = 34.0 * model.width * model.length / layout.tp
    activations = KEPT[recompute] * model.width * model.length * model.depth / layout.tp
    if recompute is not Recompute.NONE:
        activations += per_layer  # the layer that is being computed again
    return Memory(WEIGHT_BYTES * held, GRADIENT_BYTES * held, model.optimizer_bytes * spread, activations)
