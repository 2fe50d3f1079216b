"""FP8 matrix products as DeepSeek-V3 trains with (arXiv 2412.19437, section 3.3): what is rounded, where, and how.

Every product is E4M3 x E4M3 with fp32 accumulation and a bf16 result. Operands are scaled in tiles along the
contraction: 1 x 128 for activations and gradients, 128 x 128 for weights. Scales are powers of two, as in V3.1 (UE8M0)
and at V3's sensitive sites: a value times its scale is then exact in bf16, so that `Emulated`, which multiplies
the dequantised values in bf16, rounds exactly as the hardware does and differs in the order of accumulation alone.

    y  = x w^T      x in 1 x 128 tiles, w in 128 x 128
    dx = dy w       dy in 1 x 128 tiles
    dw = dy^T x     both in tiles of 128 tokens; x is the one kept from the forward pass, in E4M3, quantised again

For routed experts the tiles of dw are of 128 tokens of one expert: each expert's rows count from a tile's edge.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from dsched.jobs.train.shape import Precision

E4M3: Final = torch.float8_e4m3fn
LARGEST: Final = 448.0  # of E4M3
SMALLEST: Final = 2.0**-100  # an amax below this is nothing; its scale must stay a normal number
TILE: Final = 128

# The one place that says which layers multiply in FP8. Embedding, output head, router, norms and the attention core
# (scores, softmax, values) stay in higher precision: V3 report, section 3.3.1.
FP8_SITES: Final = frozenset({"attention-projection", "dense-feed", "shared-expert", "routed-expert", "mtp-projection"})
KEPT_SITES: Final = frozenset({"embedding", "head", "router", "norm", "attention-core"})


def uses_fp8(site: str, precision: Precision) -> bool:
    """Raises ValueError for a site that nobody decided about."""
    if site not in FP8_SITES | KEPT_SITES:
        raise ValueError(f"{site!r} is not among the sites of fp8.py: decide there whether it multiplies in FP8")
    return precision is Precision.FP8 and site in FP8_SITES


class Tiles(NamedTuple):
    """A quantised matrix: `values` in E4M3, and one scale for each tile of `rows` x 128."""

    values_MK: Tensor
    scales_RC: Tensor  # fp32; R = ceil(M / rows), C = ceil(K / 128)
    rows: int

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """(M, K). Exact in bf16 and wider."""
        m, k = self.values_MK.shape[-2:]
        tiles = _tiled(self.values_MK.to(dtype), self.rows) * self.scales_RC.to(dtype)[..., :, None, :, None]
        return tiles.flatten(-4, -3).flatten(-2)[..., :m, :k]


def quantize(x_MK: Tensor, rows: int) -> Tiles:
    """Round to E4M3 in tiles of `rows` x 128; leading dimensions are batches. Tiles at the edges may be smaller."""
    m, k = x_MK.shape[-2:]
    tiles = _tiled(x_MK.float(), rows)  # (..., R, rows, C, 128)
    scale = power_of_two(tiles.abs().amax((-3, -1), keepdim=True))
    values = (tiles / scale).to(E4M3).flatten(-4, -3).flatten(-2)[..., :m, :k]
    return Tiles(values, scale[..., 0, :, 0], rows)


def power_of_two(amax: Tensor) -> Tensor:
    """The smallest power of two s with amax / s <= 448, for fp32 `amax` >= 0."""
    mantissa, exponent = torch.frexp(amax.clamp_min(SMALLEST) / LARGEST)  # mantissa in [0.5, 1)
    return torch.ldexp(torch.ones_like(amax), exponent - (mantissa == 0.5).int())


def rounded(x_MK: Tensor, rows: int) -> Tensor:
    """What is left of x after FP8, in its own dtype."""
    return quantize(x_MK, rows).dequantize(x_MK.dtype)


class Products(Protocol):
    """The seam: everything here that multiplies. All contractions are along the last dimension of both operands."""

    def matmul(self, a_MK: Tiles, b_NK: Tiles, dtype: torch.dtype) -> Tensor:
        """(M, N)."""

    def grouped(self, a_MK: Tiles, b_ENK: Tiles, ends_E: Tensor, dtype: torch.dtype) -> Tensor:
        """(M, N): rows of a up to ends[0] times b[0]^T, then up to ends[1] times b[1]^T, ..."""


class Emulated:
    """The reference, on any device: dequantise and multiply in the result's dtype with fp32 accumulation."""

    def matmul(self, a_MK: Tiles, b_NK: Tiles, dtype: torch.dtype) -> Tensor:
        return a_MK.dequantize(dtype) @ b_NK.dequantize(dtype).mT

    def grouped(self, a_MK: Tiles, b_ENK: Tiles, ends_E: Tensor, dtype: torch.dtype) -> Tensor:
        return F.grouped_mm(a_MK.dequantize(dtype), b_ENK.dequantize(dtype).mT, offs=ends_E)


def products(device: torch.device) -> Products:
    """Hopper's own kernels where they are, else the emulation with the same rounding."""
    if device.type == "cuda":
        from dsched.jobs.train.fp8_hopper import Hopper, supported

        if supported(device):
            return Hopper()
    return Emulated()


def linear(x_SK: Tensor, w_NK: Tensor) -> Tensor:
    """x w^T for the fp32 master weight w, in FP8 forward and backward."""
    out: Tensor = _Linear.apply(x_SK, w_NK)  # type: ignore[no-untyped-call]
    return out


def grouped_linear(x_AK: Tensor, w_ENK: Tensor, ends_E: Tensor) -> Tensor:
    """Rows of x, sorted by expert, each times its expert's w^T; `ends`: cumulative row counts, int32."""
    out: Tensor = _Grouped.apply(x_AK, w_ENK, ends_E)  # type: ignore[no-untyped-call]
    return out


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_SK: Tensor, w_NK: Tensor) -> Tensor:
        x, w = quantize(x_SK, 1), quantize(w_NK, TILE)
        ctx.save_for_backward(x.values_MK, x.scales_RC, w.values_MK, w.scales_RC)
        return products(x_SK.device).matmul(x, w, x_SK.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (dy_SN,) = grads
        x_values, x_scales, w_values, w_scales = ctx.saved_tensors
        use, dtype = products(dy_SN.device), dy_SN.dtype
        w_KN = Tiles(w_values.mT, w_scales.mT, TILE)  # square tiles: transposing moves no value
        dx_SK = use.matmul(quantize(dy_SN, 1), w_KN, dtype)
        x_SK = Tiles(x_values, x_scales, 1).dequantize(dtype)
        dw_NK = use.matmul(quantize(dy_SN.mT, 1), quantize(x_SK.mT, 1), dtype)
        return dx_SK, dw_NK.float()


class _Grouped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_AK: Tensor, w_ENK: Tensor, ends_E: Tensor) -> Tensor:
        x, w = quantize(x_AK, 1), quantize(w_ENK, TILE)
        ctx.save_for_backward(x.values_MK, x.scales_RC, w.values_MK, w.scales_RC, ends_E)
        return products(x_AK.device).grouped(x, w, ends_E, x_AK.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (dy_AN,) = grads
        x_values, x_scales, w_values, w_scales, ends_E = ctx.saved_tensors
        dy_AN, dtype = dy_AN.contiguous(), dy_AN.dtype
        w_EKN = Tiles(w_values.mT, w_scales.mT, TILE)
        dx_AK = products(dy_AN.device).grouped(quantize(dy_AN, 1), w_EKN, ends_E, dtype)
        places_A, size = places(ends_E, len(dy_AN))
        x_AK = Tiles(x_values, x_scales, 1).dequantize(dtype)
        dy, x = (_by_tokens(rows, places_A, size) for rows in (dy_AN, x_AK))
        # Both hold values of E4M3 times powers of two: a bf16 product of them is the FP8 product, at bf16's speed.
        return dx_AK, F.grouped_mm(dy.mT, x, offs=ends_E).float(), None


def places(ends_E: Tensor, rows: int) -> tuple[Tensor, int]:
    """Where each row goes when every expert's rows begin at a tile's edge, and an upper bound of the rows then.

    The bound depends on the number of rows alone, so that a GPU need not be asked how many there are.
    """
    starts_E = torch.cat((ends_E.new_zeros(1), ends_E[:-1]))
    padded_E = (ends_E - starts_E + TILE - 1) // TILE * TILE
    shift_E = padded_E.cumsum(0) - padded_E - starts_E
    row_A = torch.arange(rows, device=ends_E.device)
    expert_A = torch.searchsorted(ends_E.long(), row_A, right=True).clamp_max(len(ends_E) - 1)
    return row_A + shift_E[expert_A], (rows + len(ends_E) * (TILE - 1) + TILE - 1) // TILE * TILE


def _by_tokens(x_AK: Tensor, places_A: Tensor, size: int) -> Tensor:
    """x rounded to FP8 in tiles of 128 tokens of one expert x 1."""
    padded = x_AK.new_zeros(size, x_AK.shape[1])
    padded[places_A] = x_AK
    tiles = padded.float().view(-1, TILE, x_AK.shape[1])  # (P, 128, K)
    scale = power_of_two(tiles.abs().amax(1, keepdim=True))
    back = ((tiles / scale).to(E4M3).float() * scale).to(x_AK.dtype).flatten(0, 1)
    out: Tensor = back[places_A]
    return out


def _tiled(x_MK: Tensor, rows: int) -> Tensor:
    """(..., R, rows, C, 128): zeros where the matrix ends within a tile."""
    m, k = x_MK.shape[-2:]
    if m % rows or k % TILE:
        x_MK = F.pad(x_MK, (0, -k % TILE, 0, -m % rows))
    return torch.unflatten(torch.unflatten(x_MK, -1, (-1, TILE)), -3, (-1, rows))
