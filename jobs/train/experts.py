"""Routed experts beside a shared one, balanced by a bias instead of a loss (DeepSeek-V3 report, section 2.1.2).

No token is dropped: rows are sorted by expert and multiplied group by group.

Shapes: S tokens, D model width, E experts, K experts per token, A = S x K assignments, F hidden width of an expert.
"""

from __future__ import annotations

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsched.jobs.train import fp8
from dsched.jobs.train.shape import Precision, Shape

BIAS_RATE: Final = 1e-3  # V3 report, section 4.2


def route(x_SD: Tensor, w_ED: Tensor, bias_E: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Send each token to its top K experts.

    Returns gates_SK (fp32, rows sum up to `shape.route_scale`) and experts_SK (int64). The bias steers the choice
    alone, not the gate. With groups, a token uses the experts of the best few groups, judged by their two best experts.
    """
    scores_SE = torch.sigmoid(F.linear(x_SD.float(), w_ED))
    wished_SE = scores_SE.detach() + bias_E
    if shape.groups > 1:
        wished_SGE = torch.unflatten(wished_SE, 1, (shape.groups, -1))
        best_SG = wished_SGE.topk(min(2, wished_SGE.shape[2]), dim=2).values.sum(2)
        used_SG = torch.zeros_like(best_SG, dtype=torch.bool)
        used_SG.scatter_(1, best_SG.topk(shape.groups_used, dim=1).indices, True)
        wished_SE = wished_SGE.masked_fill(~used_SG[..., None], -torch.inf).flatten(1)
    experts_SK = wished_SE.topk(shape.top_k, dim=1, sorted=False).indices
    gates_SK = scores_SE.gather(1, experts_SK)
    return shape.route_scale * gates_SK / gates_SK.sum(1, keepdim=True), experts_SK


def grouped_loop(x_AK: Tensor, w_ENK: Tensor, ends_E: Tensor) -> Tensor:
    """The reference of F.grouped_mm: one product per expert."""
    ends = [0, *ends_E.tolist()]
    return torch.cat([x_AK[ends[e] : ends[e + 1]] @ w_ENK[e].mT for e in range(len(w_ENK))])


class Experts(nn.Module):
    """Routed SwiGLU networks with one grouped product for gate and up, and one for down."""

    def __init__(self, shape: Shape, precision: Precision) -> None:
        super().__init__()
        self.shape, self.fp8 = shape, fp8.uses_fp8("routed-expert", precision)
        self.router = nn.Parameter(torch.empty(shape.experts, shape.dim))
        self.gate_up = nn.Parameter(torch.empty(shape.experts, 2 * shape.expert_hidden, shape.dim))
        self.down = nn.Parameter(torch.empty(shape.experts, shape.dim, shape.expert_hidden))
        self.bias: Tensor
        self.register_buffer("bias", torch.zeros(shape.experts))

    def forward(self, x_SD: Tensor) -> tuple[Tensor, Tensor]:
        """Returns y_SD and how many tokens each expert got (int64): an output, because a layer that is computed again
        in the backward pass would count twice into a buffer."""
        k = self.shape.top_k
        gates_SK, experts_SK = route(x_SD, self.router, self.bias, self.shape)
        order_A = experts_SK.flatten().argsort(stable=True)
        inverse_A = torch.empty_like(order_A)
        inverse_A[order_A] = torch.arange(len(order_A), device=x_SD.device)
        numbers_E = torch.arange(self.shape.experts, device=x_SD.device)
        counts_E = (experts_SK.flatten()[:, None] == numbers_E).sum(0)  # bincount would wait for the GPU
        ends_E = counts_E.cumsum(0).to(torch.int32)

        rows_AD = _Spread.apply(x_SD, order_A, inverse_A, k)  # type: ignore[no-untyped-call]
        gate_AF, up_AF = self._product(rows_AD, self.gate_up, ends_E).chunk(2, -1)
        rows_AD = self._product(F.silu(gate_AF) * up_AF, self.down, ends_E)
        rows_AD = _Permute.apply(rows_AD, inverse_A, order_A)  # type: ignore[no-untyped-call]
        y_SD = (torch.unflatten(rows_AD, 0, (-1, k)) * gates_SK.to(rows_AD.dtype)[..., None]).sum(1)
        return y_SD, counts_E

    def _product(self, x_AK: Tensor, w_ENK: Tensor, ends_E: Tensor) -> Tensor:
        if self.fp8:
            return fp8.grouped_linear(x_AK, w_ENK, ends_E)
        return F.grouped_mm(x_AK, w_ENK.to(x_AK.dtype).mT, offs=ends_E)

    @torch.no_grad()
    def rebalance(self, counts_E: Tensor) -> None:
        """Make experts that got more than the mean of the whole batch a little less wanted, and the others more.

        `counts` are integers of all ranks together, so the bias is the same however many ranks there are.
        """
        mean = counts_E.double().mean()
        self.bias += (BIAS_RATE * torch.sign(mean - counts_E)).to(self.bias)


class _Spread(torch.autograd.Function):
    """Copy each token's row once per chosen expert, in the experts' order; the backward sums without atomics."""

    @staticmethod
    def forward(ctx: Any, x_SD: Tensor, order_A: Tensor, inverse_A: Tensor, k: int) -> Tensor:
        ctx.save_for_backward(inverse_A)
        ctx.k = k
        return x_SD[order_A // k]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (inverse_A,) = ctx.saved_tensors
        return torch.unflatten(grads[0][inverse_A], 0, (-1, ctx.k)).sum(1), None, None, None


class _Permute(torch.autograd.Function):
    """Bring rows back into the tokens' order; its backward is the opposite permutation, not a scatter."""

    @staticmethod
    def forward(ctx: Any, x_AD: Tensor, to_A: Tensor, back_A: Tensor) -> Tensor:
        ctx.save_for_backward(back_A)
        return x_AD[to_A]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (back_A,) = ctx.saved_tensors
        return grads[0][back_A], None, None
