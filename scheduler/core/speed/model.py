"""What a job trains: the numbers from which speed and memory follow. All of them are optional.

A name alone is enough to share measured speeds between jobs. With the number of parameters there is a prior before the
first measurement, and a gang that cannot hold the model is refused. What is left out of the rest is filled in with the
proportions of common transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SEQUENCE: Final = 4096  # tokens, where not told
WIDTH_PER_LAYER: Final = 128  # hidden size / layers of most published transformers (Llama 3: 128 at 8B to 130 at 405B)
TOP_K: Final = 8  # routed experts per token, where not told (DeepSeek-V3, Qwen3)


class Precision(StrEnum):
    BF16 = "bf16"
    FP8 = "fp8"  # of the matrix products, where the chip has it; everything else as in BF16


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the ranks share the work: world = tp x pp x dp, and expert groups lie inside the data-parallel ones.

    In a spec 0 means "any"; in a fit every number is given.
    """

    tp: int = 0  # tensor parallel: within a node
    pp: int = 0  # pipeline stages
    ep: int = 0  # expert parallel
    dp: int = 0  # data parallel replicas

    @property
    def words(self) -> str:
        """ "tp8 pp4 dp2"; what is 1 or free is left out, and everything at 1 is "dp1"."""
        parts = [f"{name}{size}" for name in ("tp", "pp", "ep", "dp") if (size := getattr(self, name)) > 1]
        return " ".join(parts) or "dp1"


ANY: Final = Layout()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Numbers are of the whole model; 0 means: not told."""

    name: str  # the key under which jobs share what was measured
    parameters: float = 0.0
    active: float = 0.0  # parameters that one token uses; 0: all of them (dense)
    experts: int = 0  # routed, in each MoE layer
    top_k: int = 0  # of those, per token
    layers: int = 0
    hidden: int = 0
    heads: int = 0
    sequence: int = 0  # tokens
    batch: int = 0  # tokens of one step, of all replicas together: held constant whatever the gang's size
    tokens: float = 0.0  # to train on in all, where known
    precision: Precision = Precision.BF16
    optimizer_bytes: float = 12.0  # per parameter: an fp32 master copy and two fp32 moments (Adam); 8 with bf16 moments
    layout: Layout = ANY  # hard where given

    @property
    def known(self) -> bool:
        """Whether speed and memory can be told before anything was measured."""
        return self.parameters > 0

    @property
    def moe(self) -> bool:
        return self.experts > 1 and 0 < self.active < self.parameters

    @property
    def per_token(self) -> float:
        """Parameters that a token passes."""
        return self.active if self.active > 0 else self.parameters

    @property
    def shared(self) -> float:
        """Parameters outside the routed experts, from P = shared + routed and A = shared + routed x k / experts."""
        if not self.moe:
            return self.parameters
        share = min(self.top_k or TOP_K, self.experts) / self.experts
        return max(0.0, (self.active - self.parameters * share) / (1.0 - share)) if share < 1 else self.parameters

    @property
    def depth(self) -> int:
        """Layers, told or of a transformer of this size: 12 x layers x hidden^2 parameters (Kaplan et al. 2020)."""
        return self.layers or max(1, round((self.per_token / (12 * WIDTH_PER_LAYER**2)) ** (1 / 3)))

    @property
    def width(self) -> int:
        """Hidden size, told or from the depth."""
        return self.hidden or max(64, round((self.per_token / (12 * self.depth)) ** 0.5))

    @property
    def length(self) -> int:
        return self.sequence or SEQUENCE

    @property
    def sequences(self) -> int | None:
        """Of one step; None: the batch is not told, so that a gang of any size finds enough."""
        return max(1, self.batch // self.length) if self.batch else None

    @property
    def flops_per_token(self) -> float:
        """Forward and backward: 6 per parameter used, and causal attention (6 x layers x hidden x sequence)."""
        return 6.0 * self.per_token + 6.0 * self.depth * self.width * self.length
