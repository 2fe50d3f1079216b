"""A decoder shaped like DeepSeek-V3 (arXiv 2412.19437): latent attention, routed experts, multi-token prediction.

Weights are fp32 masters; each use casts them to the activations' dtype. Nothing is random after the start, so the loss
of a batch is a function of weights, biases and tokens.

Shapes: B batch, T time, D model width, H heads, N/R a head's query and key without and with position, V a head's value,
F hidden width, E experts, L layers with experts (the MTP block's last), C vocabulary.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dsched.jobs.train import fp8
from dsched.jobs.train.experts import Experts
from dsched.jobs.train.shape import Precision, Shape

DTYPES = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP8: torch.bfloat16}


class Outcome(NamedTuple):
    """Of one micro-batch."""

    loss: Tensor  # to be minimised: next token, and the one after it with less weight
    next_token: Tensor  # mean cross-entropy in nats per token, without a gradient
    counts_LE: Tensor  # tokens that each expert got, int64


class Norm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), eps=1e-6)


class Linear(nn.Module):
    """y = x w^T. `site` decides whether the product is in FP8 (fp8.py)."""

    def __init__(self, d_in: int, d_out: int, site: str, precision: Precision) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_out, d_in))
        self.fp8 = fp8.uses_fp8(site, precision)

    def forward(self, x: Tensor) -> Tensor:
        if self.fp8:
            return fp8.linear(x.flatten(0, -2), self.weight).view(*x.shape[:-1], -1)
        return F.linear(x, self.weight.to(x.dtype))


@lru_cache(maxsize=8)
def _turns(length: int, width: int, theta: float, device: torch.device) -> Tensor:
    """(T, R/2) complex numbers of size 1."""
    rate = theta ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    angle = torch.outer(torch.arange(length, device=device, dtype=torch.float32), rate)
    return torch.polar(torch.ones_like(angle), angle)


def rotate(x_BHTR: Tensor, theta: float) -> Tensor:
    """Turn neighbouring pairs of the last dimension by angles that grow with the position (RoPE, arXiv 2104.09864)."""
    pairs = torch.view_as_complex(torch.unflatten(x_BHTR.float(), -1, (-1, 2)).contiguous())
    turned = pairs * _turns(x_BHTR.shape[-2], x_BHTR.shape[-1], theta, x_BHTR.device)
    return torch.view_as_real(turned).flatten(-2).to(x_BHTR.dtype)


class Attention(nn.Module):
    """Multi-head latent attention (section 2.1.1): keys and values of all heads come from one narrow latent."""

    def __init__(self, shape: Shape, precision: Precision) -> None:
        super().__init__()
        self.shape = s = shape

        def linear(d_in: int, d_out: int) -> Linear:
            return Linear(d_in, d_out, "attention-projection", precision)

        if s.q_rank:
            self.q_down, self.q_norm = linear(s.dim, s.q_rank), Norm(s.q_rank)
        self.q_up = linear(s.q_rank or s.dim, s.heads * (s.nope + s.rope))
        self.kv_down, self.kv_norm = linear(s.dim, s.kv_rank + s.rope), Norm(s.kv_rank)
        self.kv_up = linear(s.kv_rank, s.heads * (s.nope + s.value))
        self.out = linear(s.heads * s.value, s.dim)

    def forward(self, x_BTD: Tensor) -> Tensor:
        s = self.shape
        latent = self.q_norm(self.q_down(x_BTD)) if s.q_rank else x_BTD
        q_BHTN, q_BHTR = torch.split(self._heads(self.q_up(latent)), [s.nope, s.rope], -1)
        latent, k_BTR = torch.split(self.kv_down(x_BTD), [s.kv_rank, s.rope], -1)
        k_BHTN, v_BHTV = torch.split(self._heads(self.kv_up(self.kv_norm(latent))), [s.nope, s.value], -1)
        k_BHTR = rotate(k_BTR[:, None], s.theta).expand(-1, s.heads, -1, -1)
        q, k = torch.cat((q_BHTN, rotate(q_BHTR, s.theta)), -1), torch.cat((k_BHTN, k_BHTR), -1)
        y_BHTV = F.scaled_dot_product_attention(q, k, v_BHTV, is_causal=True)
        out: Tensor = self.out(y_BHTV.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (self.shape.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """SwiGLU (arXiv 2002.05202)."""

    def __init__(self, dim: int, hidden: int, site: str, precision: Precision) -> None:
        super().__init__()
        self.gate_up = Linear(dim, 2 * hidden, site, precision)
        self.down = Linear(hidden, dim, site, precision)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, -1)
        out: Tensor = self.down(F.silu(gate) * up)
        return out


class DenseBlock(nn.Module):
    def __init__(self, shape: Shape, precision: Precision) -> None:
        super().__init__()
        self.attention_norm, self.attention = Norm(shape.dim), Attention(shape, precision)
        self.feed_norm, self.feed = Norm(shape.dim), FeedForward(shape.dim, shape.hidden, "dense-feed", precision)

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD))
        out: Tensor = x_BTD + self.feed(self.feed_norm(x_BTD))
        return out


class ExpertBlock(nn.Module):
    def __init__(self, shape: Shape, precision: Precision) -> None:
        super().__init__()
        self.attention_norm, self.attention = Norm(shape.dim), Attention(shape, precision)
        self.feed_norm, self.experts = Norm(shape.dim), Experts(shape, precision)
        self.shared = FeedForward(shape.dim, shape.shared * shape.expert_hidden, "shared-expert", precision)

    def forward(self, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """Returns y_BTD and the experts' counts_E."""
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD))
        x_SD = self.feed_norm(x_BTD).flatten(0, 1)
        routed_SD, counts_E = self.experts(x_SD)
        return x_BTD + (routed_SD + self.shared(x_SD)).view_as(x_BTD), counts_E


class FurtherToken(nn.Module):
    """Multi-token prediction (section 2.2): trunk and next token together predict the token after that."""

    def __init__(self, shape: Shape, precision: Precision) -> None:
        super().__init__()
        self.trunk_norm, self.token_norm, self.norm = Norm(shape.dim), Norm(shape.dim), Norm(shape.dim)
        self.join = Linear(2 * shape.dim, shape.dim, "mtp-projection", precision)
        self.block = ExpertBlock(shape, precision)

    def forward(self, trunk_BTD: Tensor, next_BTD: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat((self.trunk_norm(trunk_BTD), self.token_norm(next_BTD)), -1)
        x_BTD, counts_E = self.block(self.join(joined))
        return self.norm(x_BTD), counts_E


class Decoder(nn.Module):
    """The model with its loss. Weights come from `seed` alone; on the meta device they are not made."""

    def __init__(self, shape: Shape, precision: Precision, *, seed: int, recompute: bool = False) -> None:
        super().__init__()
        self.shape, self.dtype, self.recompute = shape, DTYPES[precision], recompute
        self.embed = nn.Embedding(shape.vocabulary, shape.dim)
        self.dense = nn.ModuleList(DenseBlock(shape, precision) for _ in range(shape.dense_layers))
        self.sparse = nn.ModuleList(ExpertBlock(shape, precision) for _ in range(shape.sparse_layers))
        self.norm = Norm(shape.dim)
        self.head = Linear(shape.dim, shape.vocabulary, "head", precision)
        self.further = FurtherToken(shape, precision) if shape.mtp else None
        if self.embed.weight.device.type != "meta":
            dice = torch.Generator(self.embed.weight.device).manual_seed(seed)
            for weight in self.parameters():
                if weight.ndim > 1:
                    nn.init.normal_(weight, std=shape.init_std, generator=dice)

    @property
    def experts(self) -> list[Experts]:
        """In the order of `Outcome.counts_LE`."""
        return [module for module in self.modules() if isinstance(module, Experts)]

    def loss(self, tokens_BT: Tensor) -> Outcome:
        """Over (B, T + 2) tokens: each of the first T predicts the next one, and the one after it."""
        now_BT, next_BT, after_BT = tokens_BT[:, :-2], tokens_BT[:, 1:-1], tokens_BT[:, 2:]
        trunk_BTD, counts = self._trunk(now_BT)
        loss = self._cross_entropy(self.norm(trunk_BTD), next_BT)
        total = loss
        if self.further is not None:
            next_BTD = self.embed(next_BT).to(self.dtype)
            if self.recompute:
                x_BTD, counts_E = checkpoint(self.further, trunk_BTD, next_BTD, use_reentrant=False)
            else:
                x_BTD, counts_E = self.further(trunk_BTD, next_BTD)
            counts.append(counts_E)
            total = loss + self.shape.mtp_weight * self._cross_entropy(x_BTD, after_BT)
        counts_LE = torch.stack(counts) if counts else torch.zeros(0, self.shape.experts, dtype=torch.int64)
        return Outcome(total, loss.detach(), counts_LE)

    def _trunk(self, tokens_BT: Tensor) -> tuple[Tensor, list[Tensor]]:
        x_BTD, counts = self.embed(tokens_BT).to(self.dtype), []
        for block in self.dense:
            x_BTD = checkpoint(block, x_BTD, use_reentrant=False) if self.recompute else block(x_BTD)
        for block in self.sparse:
            x_BTD, counts_E = checkpoint(block, x_BTD, use_reentrant=False) if self.recompute else block(x_BTD)
            counts.append(counts_E)
        return x_BTD, counts

    def _cross_entropy(self, x_BTD: Tensor, wanted_BT: Tensor) -> Tensor:
        logits_BTC: Tensor = self.head(x_BTD)
        return F.cross_entropy(logits_BTC.flatten(0, 1).float(), wanted_BT.flatten())
