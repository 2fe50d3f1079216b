"""The seam of fp8.py on NVIDIA's Hopper: cuBLASLt's block-scaled product, and a Triton kernel for the experts.

UNMEASURED: nothing in this file has run on a GPU yet; `bench/gpu_training.py` checks it against `Emulated` in float64.

Layouts that torch._scaled_mm wants, from its own tests (test_scaled_matmul_cuda.py): 1 x 128 scales column by column,
stride (1, M); 128 x 128 scales as (L4, N / 128), stride (1, L4), L4 = K / 128 rounded up to a multiple of four. A wrong
layout gives wrong numbers and no error, so operands that do not fit go to the emulation.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from dsched.jobs.train.fp8 import TILE, Emulated, Tiles

HOPPER: Final = (9, 0)  # cuBLASLt has these scalings on this generation alone
CUDA_MIN: Final = (12, 9)
ROWS: Final = 4  # 16 bytes of scales: the alignment of a column of them
COLUMNS: Final = 16  # of a result


def supported(device: torch.device) -> bool:
    version = tuple(int(part) for part in (torch.version.cuda or "0").split(".")[:2])
    return torch.cuda.get_device_capability(device) == HOPPER and version >= CUDA_MIN and hasattr(F, "scaled_mm")


class Hopper:
    """See fp8.Products. bf16 results only; everything else is left to `reference`."""

    reference: Final = Emulated()

    def matmul(self, a_MK: Tiles, b_NK: Tiles, dtype: torch.dtype) -> Tensor:
        m, k = a_MK.values_MK.shape
        if dtype is not torch.bfloat16 or k % TILE or len(b_NK.values_MK) % (TILE if b_NK.rows > 1 else COLUMNS):
            return self.reference.matmul(a_MK, b_NK, dtype)
        short = -m % ROWS
        out: Tensor = F.scaled_mm(
            F.pad(a_MK.values_MK.view(torch.uint8), (0, 0, 0, short)).view(a_MK.values_MK.dtype).contiguous(),
            b_NK.values_MK.contiguous().mT,
            _scales(a_MK._replace(scales_RC=F.pad(a_MK.scales_RC, (0, 0, 0, short)))),
            _recipe(a_MK),
            _scales(b_NK),
            _recipe(b_NK),
            output_dtype=dtype,
        )
        return out[:m]

    def grouped(self, a_MK: Tiles, b_ENK: Tiles, ends_E: Tensor, dtype: torch.dtype) -> Tensor:
        if dtype is not torch.bfloat16:
            return self.reference.grouped(a_MK, b_ENK, ends_E, dtype)
        from dsched.jobs.train.fp8_triton import grouped

        return grouped(a_MK, b_ENK, ends_E)


def _recipe(tiles: Tiles) -> F.ScalingType:
    return F.ScalingType.BlockWise1x128 if tiles.rows == 1 else F.ScalingType.BlockWise128x128


def _scales(tiles: Tiles) -> Tensor:
    if tiles.rows == 1:
        return tiles.scales_RC.mT.contiguous().mT
    return F.pad(tiles.scales_RC, (0, -tiles.scales_RC.shape[1] % ROWS)).contiguous().mT
