"""FP8 products: every kernel's reference against float64, and that the emulation rounds as hardware does."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor

from dsched.jobs.train import fp8
from dsched.jobs.train.experts import grouped_loop
from dsched.jobs.train.fp8 import TILE, Emulated, quantize, rounded
from dsched.jobs.train.shape import Precision

torch.set_num_threads(1)


def dice(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def error(got: Tensor, wanted: Tensor) -> float:
    return ((got.double() - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("amax", [448.0, 448.1, 1.0, 3.5, 7.0, 1e-30, 0.0, 3e38])
def test_a_scale_is_the_smallest_power_of_two_that_keeps_a_tile_within_e4m3(amax: float) -> None:
    scale = fp8.power_of_two(torch.tensor(amax)).item()
    assert torch.frexp(torch.tensor(scale)).mantissa == 0.5
    assert amax / scale <= 448
    assert amax < 1e-20 or amax / scale > 224


@pytest.mark.parametrize("rows", [1, TILE])
@pytest.mark.parametrize("shape", [(128, 256), (130, 200), (5, 7), (3, 128, 384)])
def test_a_dequantised_value_is_exact_in_bf16(rows: int, shape: tuple[int, ...]) -> None:
    tiles = quantize(dice(*shape) * 100, rows)
    assert torch.equal(tiles.dequantize(torch.bfloat16).double(), tiles.dequantize(torch.float64))
    assert tiles.values_MK.shape == shape


def test_an_outlier_spoils_its_own_tile_alone() -> None:
    x = dice(2, 256)
    x[0, 3] = 1e6
    close = error(rounded(x, 1)[:, 128:], x[:, 128:].double())
    assert close < 0.04
    assert rounded(x, 1)[0, :128].count_nonzero() < 128, "small neighbours of the outlier are gone"


@pytest.mark.parametrize("outliers", [False, True])
def test_a_product_is_within_four_per_cent_of_float64(outliers: bool) -> None:
    x, w = dice(256, 512), dice(384, 512, seed=1)
    if outliers:
        x[dice(256, 512, seed=2) > 3] *= 100
    got = fp8.linear(x.bfloat16(), w)
    assert error(got, x.double() @ w.double().mT) < 0.04


def test_the_emulation_multiplies_exactly_what_was_rounded() -> None:
    """Against float64 only the result's own rounding to bf16 is left."""
    a, b = quantize(dice(64, 300), 1), quantize(dice(200, 300, seed=1), TILE)
    wanted = a.dequantize(torch.float64) @ b.dequantize(torch.float64).mT
    assert error(Emulated().matmul(a, b, torch.bfloat16), wanted) < 2**-8
    assert error(Emulated().matmul(a, b, torch.float32), wanted) < 1e-6


def test_all_three_products_of_a_layer_are_rounded_in_their_own_tiles() -> None:
    x, w, dy = dice(256, 128), dice(192, 128, seed=1), dice(256, 192, seed=2)
    x, w = x.requires_grad_(), w.requires_grad_()
    fp8.linear(x, w).backward(dy)
    assert x.grad is not None
    assert w.grad is not None
    assert error(x.grad, rounded(dy, 1).double() @ rounded(w, TILE).double()) < 1e-6
    kept = rounded(x.detach(), 1)  # the forward pass kept x in E4M3
    assert error(w.grad, rounded(dy.mT, 1).double() @ rounded(kept.mT.contiguous(), 1).double().mT) < 1e-6


def test_a_gradient_is_within_a_few_per_cent_of_float64() -> None:
    x, w, dy = dice(256, 512), dice(384, 512, seed=1), dice(256, 384, seed=2)
    x, w = x.requires_grad_(), w.requires_grad_()
    fp8.linear(x, w).backward(dy)
    assert x.grad is not None
    assert w.grad is not None
    assert error(x.grad, dy.double() @ w.detach().double()) < 0.04
    assert error(w.grad, dy.double().mT @ x.detach().double()) < 0.05  # x was rounded twice


COUNTS = [37, 0, 128, 91]  # of rows per expert: a part of a tile, none, a whole tile, another part


def experts() -> tuple[Tensor, Tensor, Tensor]:
    ends = torch.tensor(COUNTS).cumsum(0).to(torch.int32)
    return dice(sum(COUNTS), 96), dice(len(COUNTS), 64, 96, seed=1), ends


def test_grouped_products_are_those_of_one_expert_at_a_time() -> None:
    x, w, ends = experts()
    assert torch.equal(torch.nn.functional.grouped_mm(x, w.mT, offs=ends), grouped_loop(x, w, ends))
    parts = [fp8.linear(rows, expert) for rows, expert in zip(x.split(COUNTS), w, strict=True)]
    assert error(fp8.grouped_linear(x, w, ends), torch.cat(parts).double()) < 1e-6


def test_each_experts_gradient_is_rounded_in_tiles_of_its_own_tokens() -> None:
    x, w, ends = experts()
    dy = dice(len(x), 64, seed=3)
    grouped_w, single_w = w.clone().requires_grad_(), w.clone().requires_grad_()
    fp8.grouped_linear(x, grouped_w, ends).backward(dy)
    for rows, expert, grad in zip(x.split(COUNTS), single_w, dy.split(COUNTS), strict=True):
        fp8.linear(rows, expert).backward(grad)
    assert grouped_w.grad is not None
    assert single_w.grad is not None
    assert grouped_w.grad[1].count_nonzero() == 0
    assert error(grouped_w.grad, single_w.grad.double()) < 1e-6


def test_every_experts_rows_begin_at_a_tile() -> None:
    places, size = fp8.places(torch.tensor(COUNTS).cumsum(0).to(torch.int32), sum(COUNTS))
    firsts = places[torch.tensor([0, 37, 165])]
    assert firsts.tolist() == [0, 128, 256]
    assert len(places.unique()) == sum(COUNTS)
    assert size % TILE == 0
    assert places.max() < size


def test_a_layer_that_nobody_decided_about_is_refused() -> None:
    with pytest.raises(ValueError, match="'convolution' is not among the sites"):
        fp8.uses_fp8("convolution", Precision.FP8)
    assert fp8.uses_fp8("routed-expert", Precision.FP8)
    assert not fp8.uses_fp8("routed-expert", Precision.BF16)
    assert not any(fp8.uses_fp8(site, Precision.FP8) for site in fp8.KEPT_SITES)
