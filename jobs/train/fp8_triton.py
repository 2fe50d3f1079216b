"""Rows sorted by expert times each expert's weights, in FP8, in one launch: Triton, after DeepSeek-V3's fp8_gemm.

UNMEASURED: written against the reference `fp8.Emulated.grouped`, and not yet run on a GPU.

Every program makes one 64 x 128 tile of the result. Which expert and rows a tile belongs to is worked out on the
device, so that nobody waits for the experts' counts; the grid is as large as it could be at worst, and programs without
rows leave at once. Accumulation is fp32, scaled once per 128 of the contraction.
"""

from __future__ import annotations

from typing import Any, Final

import torch
import triton  # type: ignore[import-not-found, import-untyped, unused-ignore]
import triton.language as tl  # type: ignore[import-not-found, import-untyped, unused-ignore]
from torch import Tensor

from dsched.jobs.train.fp8 import TILE, Tiles

ROWS: Final = 64
COLUMNS: Final = 128


def grouped(a_MK: Tiles, b_ENK: Tiles, ends_E: Tensor) -> Tensor:
    """(M, N) in bf16. `b` may be a transposed view: its strides are passed on."""
    m, k = a_MK.values_MK.shape
    experts, n, _ = b_ENK.values_MK.shape
    out = torch.empty(m, n, device=ends_E.device, dtype=torch.bfloat16)
    tile_expert, tile_row = _tiles(ends_E, m)
    grid = (len(tile_expert), triton.cdiv(n, COLUMNS))
    _kernel[grid](
        a_MK.values_MK.contiguous(), a_MK.scales_RC.contiguous(), b_ENK.values_MK, b_ENK.scales_RC, out,
        tile_expert, tile_row, ends_E, n, k, triton.cdiv(k, TILE), experts,
        *b_ENK.values_MK.stride(), *b_ENK.scales_RC.stride(),
        ROWS=ROWS, COLUMNS=COLUMNS, TILE=TILE, num_warps=4, num_stages=3,
    )  # fmt: skip
    return out


def _tiles(ends_E: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Per tile of the result its expert (`len(ends)`: none) and its first row."""
    starts_E = torch.cat((ends_E.new_zeros(1), ends_E[:-1]))
    count_E = (ends_E - starts_E + ROWS - 1) // ROWS
    last_E = count_E.cumsum(0)
    tile_T = torch.arange((rows + ROWS - 1) // ROWS + len(ends_E), device=ends_E.device)
    expert_T = torch.searchsorted(last_E, tile_T, right=True)
    known_T = expert_T.clamp_max(len(ends_E) - 1)
    row_T = starts_E[known_T] + (tile_T - (last_E - count_E)[known_T]) * ROWS
    return expert_T.to(torch.int32), row_T.to(torch.int32)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _kernel(
    a: Any, a_scales: Any, b: Any, b_scales: Any, out: Any, tile_expert: Any, tile_row: Any, ends: Any,
    n: Any, k: Any, tiles: Any, experts: Any,
    b_expert: Any, b_column: Any, b_depth: Any, s_expert: Any, s_column: Any, s_depth: Any,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, TILE: tl.constexpr,
) -> None:  # fmt: skip
    expert = tl.load(tile_expert + tl.program_id(0))
    if expert >= experts:
        return
    end = tl.load(ends + expert)
    row = tl.load(tile_row + tl.program_id(0)) + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    depth = tl.arange(0, TILE)
    a_at = a + row[:, None].to(tl.int64) * k + depth[None, :]
    b_at = b + expert.to(tl.int64) * b_expert + depth[:, None] * b_depth + column[None, :] * b_column
    a_scale = a_scales + row * tiles
    b_scale = b_scales + expert * s_expert + (column // TILE) * s_column
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for tile in range(0, tiles):
        inside = depth < k - tile * TILE
        x = tl.load(a_at, mask=(row[:, None] < end) & inside[None, :], other=0.0)
        w = tl.load(b_at, mask=inside[:, None] & (column[None, :] < n), other=0.0)
        x_scale = tl.load(a_scale + tile, mask=row < end, other=0.0)
        w_scale = tl.load(b_scale + tile * s_depth, mask=column < n, other=0.0)
        total += tl.dot(x, w) * x_scale[:, None] * w_scale[None, :]
        a_at += TILE
        b_at += TILE * b_depth
    place = out + row[:, None].to(tl.int64) * n + column[None, :]
    tl.store(place, total.to(tl.bfloat16), mask=(row[:, None] < end) & (column[None, :] < n))
