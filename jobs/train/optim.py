"""AdamW over one worker's segment of the flat parameters: fp32 master weights, bf16 moments (DeepSeek-V3, 3.3.3).

Eight bytes per parameter instead of twelve. torch.optim would do the arithmetic, but its first step imports the
compiler (1.5 s at every start of an interrupted job), and a flat segment makes the step a dozen large operations.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from dsched.jobs.runtime.elastic import Flat, World

BETAS: Final = (0.9, 0.95)  # 0.95: usual for language models, recovers faster from a loss spike than 0.999
EPSILON: Final = 1e-8
DECAY: Final = 0.1
NORM_MAX: Final = 1.0


class AdamW:
    """Updates the worker's own segment; the rest of the weights comes from the peers."""

    def __init__(self, flat: Flat, world: World) -> None:
        self._flat, self._world = flat, world
        own = world.segment(flat.numel)
        self.master = flat.weights[own]
        self.mean = torch.zeros_like(self.master, dtype=torch.bfloat16)
        self.square = torch.zeros_like(self.mean)
        self._decayed = min(max(flat.decayed - own.start, 0), len(self.master))

    def shard_state(self, shard: int) -> dict[str, Tensor]:
        """Everything to save of one owned logical shard, as views."""
        per = self._flat.numel // self._flat.shards
        at = (shard - self._world.owned.start) * per
        kinds = {"master": self.master, "mean": self.mean, "square": self.square}
        return {name: flat[at : at + per] for name, flat in kinds.items()}

    def square_sums(self, gradient: Tensor) -> Tensor:
        """Per owned shard the sum of the gradient's squares, in float64: added shard by shard they give one norm."""
        shards = gradient.chunk(len(self._world.owned))  # one by one: how a sum is bracketed depends on its shape
        return torch.stack([shard.double().square_().sum() for shard in shards])

    @torch.no_grad()
    def step(self, gradient: Tensor, norm: float, step: int, rate: float) -> None:
        """Update with the gradient's segment of the `step`-th step (from 1), clipped by the norm of the whole."""
        g, (b1, b2) = gradient.mul_(min(1.0, NORM_MAX / (norm + EPSILON))), BETAS
        mean = self.mean.float().lerp_(g, 1 - b1)
        square = self.square.float().lerp_(g.square_(), 1 - b2)
        self.mean.copy_(mean)
        self.square.copy_(square)
        scale = square.div_(1 - b2**step).sqrt_().add_(EPSILON)
        self.master[: self._decayed].mul_(1 - rate * DECAY)  # norms are not pulled to zero
        self.master.addcdiv_(mean, scale, value=-rate / (1 - b1**step))
        self._world.all_gather(self._flat.weights)
