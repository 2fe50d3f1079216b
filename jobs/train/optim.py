"""AdamW over one flat buffer.

torch.optim would do, but its first step imports the compiler (1.5 s at every start of an interrupted job), and a flat
buffer makes the step a dozen large operations, and the state three tensors to copy aside.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.95)  # 0.95: usual for language models, recovers faster from a loss spike than 0.999
EPSILON = 1e-8
DECAY = 0.1
GRADIENT_NORM_MAX = 1.0


class AdamW:
    """Owns the parameters' memory: every parameter and gradient of `model` becomes a view of a flat tensor."""

    def __init__(self, model: nn.Module) -> None:
        size = sum(p.numel() for p in model.parameters())
        self.weights = torch.empty(size)
        self.gradient = torch.zeros(size)
        self.mean = torch.zeros(size)
        self.square = torch.zeros(size)
        self._decay = torch.empty(size)
        self._parts: dict[str, slice] = {}
        at = 0
        for name, p in model.named_parameters():
            part = self._parts[name] = slice(at, at + p.numel())
            self.weights[part] = p.detach().flatten()
            p.data = self.weights[part].view_as(p)
            p.grad = self.gradient[part].view_as(p)
            self._decay[part] = DECAY if p.ndim > 1 else 0.0  # norms are not pulled to zero
            at += p.numel()

    def state(self) -> dict[str, Tensor]:
        """Everything to save, as views under the parameters' names."""
        kinds = {"weights": self.weights, "mean": self.mean, "square": self.square}
        return {f"{kind}/{name}": flat[part] for kind, flat in kinds.items() for name, part in self._parts.items()}

    @torch.no_grad()
    def step(self, step: int, rate: float) -> None:
        """Update with the gradient of the `step`-th step (from 1), then clear it."""
        g, (b1, b2) = self.gradient, BETAS
        norm = torch.linalg.vector_norm(g)
        g.mul_(torch.clamp(GRADIENT_NORM_MAX / (norm + EPSILON), max=1.0))
        self.mean.lerp_(g, 1 - b1)
        self.square.mul_(b2).addcmul_(g, g, value=1 - b2)
        scale = (self.square / (1 - b2**step)).sqrt_().add_(EPSILON)
        self.weights.mul_(1 - rate * self._decay)
        self.weights.addcdiv_(self.mean, scale, value=-rate / (1 - b1**step))
        g.zero_()
