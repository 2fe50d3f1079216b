"""A small byte-level decoder: RMSNorm, attention with rotary positions, SwiGLU.

Shapes: B batch, T time, D model width, H heads, K head width, F feed-forward width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCABULARY = 256  # bytes: no tokenizer, any text


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The model's dimensions. 128 x 2 is 0.5 million parameters, 256 x 4 is 3.3 million."""

    dim: int = 128
    layers: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        if min(self.dim, self.layers, self.heads) < 1 or self.dim % (2 * self.heads):
            raise ValueError(f"dim={self.dim} must be a multiple of twice heads={self.heads}, and all of them positive")

    @property
    def hidden(self) -> int:
        """Feed-forward width: 8/3 of the model's, as usual for SwiGLU, in whole 32s."""
        return -(-8 * self.dim // 3 // 32) * 32


class Norm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x_BTD: Tensor) -> Tensor:
        return F.rms_norm(x_BTD, self.weight.shape, self.weight, eps=1e-6)


def rotate(x_BHTK: Tensor) -> Tensor:
    """Turn neighbouring pairs of the head's width by angles that grow with the position (RoPE, base 10,000)."""
    t, k = x_BHTK.shape[-2:]
    rate = 10_000.0 ** (-torch.arange(0, k, 2, device=x_BHTK.device, dtype=torch.float32) / k)
    angle = torch.outer(torch.arange(t, device=x_BHTK.device, dtype=torch.float32), rate)
    cos, sin = angle.cos(), angle.sin()
    a, b = x_BHTK.reshape(*x_BHTK.shape[:-1], -1, 2).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=False)
        self.out = nn.Linear(shape.dim, shape.dim, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        q, k, v = self.qkv(x_BTD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y_BHTK = F.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True)
        out: Tensor = self.out(y_BHTK.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_up = nn.Linear(shape.dim, 2 * shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, shape.dim, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        gate, up = self.gate_up(x_BTD).chunk(2, -1)
        out: Tensor = self.down(F.silu(gate) * up)
        return out


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm, self.attention = Norm(shape.dim), Attention(shape)
        self.feed_norm, self.feed = Norm(shape.dim), FeedForward(shape)

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD))
        out: Tensor = x_BTD + self.feed(self.feed_norm(x_BTD))
        return out


class Decoder(nn.Module):
    """Next-byte prediction. Weights come from `seed` alone."""

    def __init__(self, shape: Shape, *, seed: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, shape.dim)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.dim)
        self.head = nn.Linear(shape.dim, VOCABULARY, bias=False)
        dice = torch.Generator().manual_seed(seed)
        for p in self.parameters():
            if p.ndim > 1:
                nn.init.normal_(p, std=0.02, generator=dice)

    def loss(self, bytes_BT: Tensor) -> Tensor:
        """Mean cross-entropy in nats per byte over (B, T + 1) bytes: each predicts the next."""
        x_BTD = self.embed(bytes_BT[:, :-1])
        for block in self.blocks:
            x_BTD = block(x_BTD)
        logits_BTV = self.head(self.norm(x_BTD))
        return F.cross_entropy(logits_BTV.flatten(0, 1), bytes_BT[:, 1:].flatten())
