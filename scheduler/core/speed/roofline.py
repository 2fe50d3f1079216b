"""Tokens per second before anybody has measured them: peak FLOPS, memory and network bandwidth, and what is known of
how much of each a training step reaches.

The constants are priors, anchored on published runs; each says on which. The estimate's own error is PRIOR_SIGMA, and
the first measured steps outweigh it (posterior.py).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from dsched.scheduler.core.hardware import Accelerator, Shape
from dsched.scheduler.core.speed.memory import AGAIN, WEIGHT_BYTES, Recompute, local
from dsched.scheduler.core.speed.model import Layout, Model, Precision

EFFICIENCY: Final = 0.45
"""Share of the BF16 peak that a step's kernels reach while nothing waits. Llama 3 405B: 0.41-0.43 with waiting, 8,192
and 16,384 H100 (arXiv 2407.21783, table 4); torchtitan, Llama 3.1 8B on 8 H100: 0.33-0.39."""
GROUPED: Final = 0.8
"""Grouped products of small experts against one large product (DeepGEMM's published dense and grouped figures)."""
FP8_GAIN: Final = 1.28
"""A whole step with FP8 products against BF16: products run twice as fast, the rest does not (torchtitan, Llama 3.1 8B
on 8 H100: 8,532 against 6,667 tokens/s per GPU)."""
LINE_RATE: Final = 0.7
"""Of a link's rate that collectives reach at the sizes of training (NCCL's own tests: 0.6 to 0.9)."""
OVERLAPPED: Final = 0.7
"""Of the communication that hides behind computation, where there is computation enough to hide behind."""
INTERLEAVED_MAX: Final = 8
"""Virtual stages per pipeline rank (Narayanan et al. 2021): each shortens the bubble."""
NODES_PER_TOKEN: Final = 4
"""Nodes that a token's experts lie on at most: routing limited to nodes (DeepSeek-V3, section 2.1.2)."""
NETWORK_UNKNOWN: Final = 100
"""Gbit/s of a node whose network is not in the catalog: what most cloud machines with GPUs have at least."""
PRIOR_SIGMA: Final = 0.3
"""Of the natural logarithm of the speed: the anchors above lie within 25 % of the estimate."""
MICROBATCHES_UNKNOWN: Final = 16  # per replica, where the batch is not told


class Estimate(NamedTuple):
    """Of one step, in seconds, and what follows."""

    tokens_per_s: float  # of the whole gang
    compute: float  # the slower of arithmetic and memory traffic
    bubble: float  # pipeline stages that wait
    exposed: float  # communication that nothing hides

    @property
    def seconds(self) -> float:
        return self.compute + self.bubble + self.exposed


def fp8(model: Model, chip: Accelerator) -> bool:
    return model.precision is Precision.FP8 and bool(chip.fp8_tflops)


def flops(model: Model, chip: Accelerator) -> float:
    """Of one GPU, reached in a step without waiting."""
    reached = chip.bf16_tflops * 1e12 * EFFICIENCY * (GROUPED if model.moe else 1.0)
    return reached * FP8_GAIN if fp8(model, chip) else reached


def estimate(
    model: Model, shape: Shape, nodes: int, layout: Layout, recompute: Recompute, *, sharded: bool
) -> Estimate:
    """One training step of `nodes` machines. `sharded` as in memory.needed."""
    chip = shape.accelerator
    assert chip is not None, "only machines with GPUs are estimated"
    rounds = _microbatches(model, layout)  # per replica and step
    tokens = rounds * layout.dp * model.length
    gpus = nodes * shape.gpus
    arithmetic = AGAIN[recompute] * tokens * model.flops_per_token / (gpus * flops(model, chip))
    compute = max(arithmetic, _traffic(model, layout, chip, rounds))
    stages = max(1, min(INTERLEAVED_MAX, model.depth // layout.pp))
    bubble = compute * (layout.pp - 1) / (stages * rounds)
    wire = _communication(model, shape, nodes, layout, rounds, sharded=sharded)
    exposed = max((1.0 - OVERLAPPED) * wire, wire - compute)
    return Estimate(tokens / (compute + bubble + exposed), compute, bubble, exposed)


def _microbatches(model: Model, layout: Layout) -> float:
    sequences = model.sequences
    return MICROBATCHES_UNKNOWN if sequences is None else max(1.0, sequences / layout.dp)


def _traffic(model: Model, layout: Layout, chip: Accelerator, rounds: float) -> float:
    """Seconds of memory traffic: the weights three times per micro-batch, the optimizer's state in and out once."""
    common, experts = local(model, layout)
    weights = 3 * rounds * WEIGHT_BYTES * (common + experts)
    state = 2 * model.optimizer_bytes * (common / layout.dp + experts * layout.ep / layout.dp)
    return (weights + state) / (chip.bandwidth_gb_s * 1e9)


def _communication(model: Model, shape: Shape, nodes: int, layout: Layout, rounds: float, *, sharded: bool) -> float:
    """Seconds on the busiest GPU's links per step, if nothing else happened."""
    chip = shape.accelerator
    assert chip is not None, "only machines with GPUs are estimated"
    near = chip.link_gb_s * 1e9 * LINE_RATE
    far = (shape.network_gbit_s or NETWORK_UNKNOWN) / 8 / shape.gpus * 1e9 * LINE_RATE
    between = near if nodes == 1 else min(near, far)
    tokens = rounds * model.length  # of one replica: each of its GPUs sees all of them, for its stage's layers
    layers = model.depth / layout.pp
    # Four all-reduces per layer (two forward, two backward), each moving its bf16 input twice, less one share.
    tensor = tokens * layers * 4 * 2 * (1 - 1 / layout.tp) * model.width * 2 / near
    common, experts = local(model, layout)
    # Gradients are scattered and weights gathered once a step; FSDP gathers for every forward and backward pass.
    passes = 2 + (2 * rounds if sharded else 0)
    mine = common * (1 - 1 / layout.dp) + experts * (1 - layout.ep / layout.dp)
    data = passes * WEIGHT_BYTES * mine / between
    return tensor + data + _dispatch(model, shape, layout, tokens * layers, near, far)


def _dispatch(model: Model, shape: Shape, layout: Layout, passed: float, near: float, far: float) -> float:
    """Tokens to their experts and back, forward and backward: to each node once over the network, then inside."""
    if not model.moe or layout.ep == 1:
        return 0.0
    size = (1 if model.precision is Precision.FP8 else 2) + 2  # bytes per hidden unit: there and back (bf16)
    moved = 2 * passed / layout.tp * model.width * size
    copies = min(model.top_k or NODES_PER_TOKEN, layout.ep)
    ranks_near = max(1, shape.gpus // layout.tp)
    spread = min(NODES_PER_TOKEN, layout.ep // ranks_near) if layout.ep > ranks_near else 0
    return moved * (copies / near if not spread else max(copies / near, spread / far))
