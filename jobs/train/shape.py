"""The model's dimensions, and what follows from them: parameters, bytes, floating-point operations. No torch.

Presets run from one that trains in milliseconds on a CPU to the published DeepSeek-V3, which is here to be reckoned
with, not to be trained on one machine. `parameters` counts what the report counts: everything but the multi-token
prediction module.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Precision(StrEnum):
    """Of activations and matrix products. Master weights are fp32 and moments bf16 in any case."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP8 = "fp8"  # E4M3 products at the sites that fp8.py lists, everything else as in BF16


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A decoder as in the DeepSeek-V3 report (arXiv 2412.19437, section 2). Widths in elements."""

    dim: int
    layers: int
    dense_layers: int = 1  # the first ones, with one feed-forward network for all tokens
    heads: int
    q_rank: int = 0  # width of the queries' latent; 0: queries straight from the input, as in V2-Lite
    kv_rank: int  # width of the latent from which keys and values are made: all that a cache would hold
    nope: int  # of a head's query and key: the part without position
    rope: int  # and the part that is rotated; its key is shared by all heads
    value: int  # of a head
    hidden: int  # of a dense feed-forward network
    experts: int  # routed, per layer
    top_k: int  # of those, per token
    expert_hidden: int
    shared: int = 1  # experts that every token passes; one network of shared x expert_hidden
    groups: int = 1  # experts are in so many groups (one a node), and a token may use `groups_used` of them
    groups_used: int = 1
    route_scale: float = 1.0  # of the gates, which otherwise sum up to 1
    mtp: bool = True  # one more block predicts one token further (section 2.2)
    mtp_weight: float = 0.3  # of its loss
    vocabulary: int = 256  # bytes: no tokenizer, any text
    init_std: float = 0.02
    theta: float = 10_000.0  # base of the rotary angles

    def __post_init__(self) -> None:
        counts = (self.dim, self.layers, self.heads, self.kv_rank, self.nope, self.rope, self.value, self.hidden)
        if min(*counts, self.experts, self.top_k, self.expert_hidden, self.vocabulary) < 1:
            raise ValueError("every width and count of a shape must be positive")
        if not 0 <= self.dense_layers <= self.layers:
            raise ValueError(f"dense_layers={self.dense_layers} of layers={self.layers}")
        if self.rope % 2:
            raise ValueError(f"rope={self.rope} must be even: pairs are rotated")
        if self.experts % self.groups or not 1 <= self.groups_used <= self.groups:
            raise ValueError(f"experts={self.experts} in groups={self.groups}, of which groups_used={self.groups_used}")
        if self.top_k > self.experts // self.groups * self.groups_used:
            raise ValueError(f"top_k={self.top_k} experts of {self.experts // self.groups * self.groups_used} allowed")

    @property
    def sparse_layers(self) -> int:
        """Layers with routed experts; the MTP block is one more."""
        return self.layers - self.dense_layers

    @property
    def attention_parameters(self) -> int:
        query = self.heads * (self.nope + self.rope)
        q = self.dim * self.q_rank + self.q_rank + self.q_rank * query if self.q_rank else self.dim * query
        kv = self.dim * (self.kv_rank + self.rope) + self.kv_rank + self.kv_rank * self.heads * (self.nope + self.value)
        return q + kv + self.heads * self.value * self.dim

    def _block(self, experts: int) -> int:
        """A block that a token passes with so many routed experts; its two norms included."""
        router = self.dim * self.experts
        feed = 3 * self.dim * self.expert_hidden * (experts + self.shared)
        return self.attention_parameters + 2 * self.dim + router + feed

    def _model(self, experts: int) -> int:
        dense = self.attention_parameters + 2 * self.dim + 3 * self.dim * self.hidden
        blocks = self.dense_layers * dense + self.sparse_layers * self._block(experts)
        return blocks + 2 * self.vocabulary * self.dim + self.dim

    @property
    def parameters(self) -> int:
        return self._model(self.experts)

    @property
    def active(self) -> int:
        """Parameters that one token passes, embedding and head included."""
        return self._model(self.top_k)

    @property
    def mtp_parameters(self) -> int:
        """Embedding and head are the model's own."""
        return self._block(self.experts) + 2 * self.dim * self.dim + 3 * self.dim if self.mtp else 0

    @property
    def state_bytes(self) -> int:
        """Of a checkpoint: an fp32 master weight and two bf16 moments per parameter."""
        return 8 * (self.parameters + self.mtp_parameters)

    def flops_per_token(self, length: int) -> float:
        """Forward and backward at `length` tokens of context: 6 per parameter used, and causal attention.

        Attention: two products of query with key and score with value, over half of the context, three times
        (Kaplan et al. 2020, appendix B; PaLM, arXiv 2204.02311, appendix B). The embedding is a look-up: it counts not.
        """
        blocks = self.layers + self.mtp
        used = self.active - self.vocabulary * self.dim
        if self.mtp:
            used += self._block(self.top_k) + 2 * self.dim * self.dim + self.vocabulary * self.dim
        attention = 6 * blocks * self.heads * (self.nope + self.rope + self.value) * length / 2
        return 6.0 * used + attention


PRESETS: Final = {
    # a step of four short micro-batches takes some 20 ms on one core
    "tiny": Shape(
        dim=64, layers=2, heads=2, q_rank=32, kv_rank=32, nope=16, rope=16, value=32, hidden=128,
        experts=4, top_k=2, expert_hidden=32,
    ),
    "4m": Shape(
        dim=256, layers=3, heads=4, q_rank=128, kv_rank=64, nope=32, rope=32, value=64, hidden=512,
        experts=8, top_k=2, expert_hidden=128,
    ),
    "125m": Shape(
        dim=768, layers=8, heads=12, q_rank=384, kv_rank=256, nope=64, rope=32, value=64, hidden=2048,
        experts=16, top_k=2, expert_hidden=256,
    ),
    "1b": Shape(
        dim=1536, layers=16, heads=16, q_rank=768, kv_rank=512, nope=64, rope=64, value=128, hidden=4096,
        experts=32, top_k=4, expert_hidden=384,
    ),
    # DeepSeek-V2-Lite (arXiv 2405.04434, appendix B) with sigmoid gates and MTP as in V3
    "16b": Shape(
        dim=2048, layers=27, heads=16, kv_rank=512, nope=128, rope=64, value=128, hidden=10_944,
        experts=64, top_k=6, expert_hidden=1408, shared=2, vocabulary=102_400, init_std=0.006,
    ),
    # DeepSeek-V3 (arXiv 2412.19437, section 4.2)
    "deepseek-v3": Shape(
        dim=7168, layers=61, dense_layers=3, heads=128, q_rank=1536, kv_rank=512, nope=128, rope=64, value=128,
        hidden=18_432, experts=256, top_k=8, expert_hidden=2048, groups=8, groups_used=4, route_scale=2.5,
        vocabulary=129_280, init_std=0.006,
    ),
}  # fmt: skip
