"""The trainer on one Hopper GPU: kernels against their reference in float64, and the speed of a step.

    .venv/bin/python bench/gpu_training.py [--preset 1b] [--steps 20]

UNMEASURED: no GPU was at hand when this was written, so no figure of it is claimed anywhere. Without one it says so and
exits with 75. FLOP/s are of the model's own arithmetic, MFU of the card's dense bf16 peak, FP8's too.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.figure import Figure, hand_over, table
from dsched.jobs.runtime.elastic import World
from dsched.jobs.train import fp8, gauges
from dsched.jobs.train.fp8 import TILE, Emulated, quantize
from dsched.jobs.train.shape import PRESETS, Precision
from dsched.jobs.train.training import Recipe, Training

NO_GPU = 75


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="1b")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--length", type=int, default=4096)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU here: unmeasured")
        return NO_GPU
    device = torch.device("cuda:0")
    print(torch.cuda.get_device_name(), torch.__version__, "CUDA", torch.version.cuda)
    found = [*kernels(device), *steps(options.preset, options.steps, options.length)]
    print(table(found))
    hand_over(found)
    return 0


def kernels(device: torch.device) -> Iterator[Figure]:
    """Each native product against the emulation in float64, and its speed beside cuBLAS in bf16."""
    native, dice = fp8.products(device), torch.Generator(device).manual_seed(0)
    m, n, k, experts = 8192, 4096, 4096, 16

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device, generator=dice)

    x, w, many = normal(m, k), normal(n, k), normal(experts, n, k)
    ends = torch.arange(1, experts + 1, device=device, dtype=torch.int32) * (m // experts) - 37
    ends[-1] = m
    a, b, c = quantize(x, 1), quantize(w, TILE), quantize(many, TILE)
    ours = native.matmul(a, b, torch.bfloat16)
    yield error("FP8 product against float64 of the same tiles", ours, Emulated().matmul(a, b, torch.float64))
    grouped = native.grouped(a, c, ends, torch.bfloat16)
    each = [slice(start, end) for start, end in zip([0, *ends.tolist()], ends.tolist(), strict=False)]
    rows = a.dequantize(torch.float64)
    exact = torch.cat([rows[part] @ c.dequantize(torch.float64)[e].mT for e, part in enumerate(each)])
    yield error("FP8 experts against float64 of the same tiles", grouped, exact)
    flops = 2.0 * m * n * k
    usual = flops / timed(lambda: x.bfloat16() @ w.bfloat16().mT)
    fast = flops / timed(lambda: native.matmul(a, b, torch.bfloat16))
    experts_speed = flops / timed(lambda: native.grouped(a, c, ends, torch.bfloat16))
    yield Figure(name="FP8 product", value=fast / 1e12, unit="TFLOP/s", limit=usual / 1e12, beside="cuBLAS bf16")
    yield Figure(
        name="FP8 experts", value=experts_speed / 1e12, unit="TFLOP/s", limit=usual / 1e12, beside="cuBLAS bf16"
    )


def steps(preset: str, count: int, length: int) -> Iterator[Figure]:
    peak = gauges.peak_of(torch.cuda.get_device_name())
    taken: dict[Precision, float] = {}
    for precision in (Precision.BF16, Precision.FP8):
        recipe = Recipe(shape=PRESETS[preset], precision=precision, shards=1, rows=2, length=length)
        training = Training(recipe, World(shards=1, device="cuda"), device="cuda", recompute=True)
        for _ in range(3):
            training.step()
        taken[precision] = timed(lambda training=training: training.step(), count)  # type: ignore[misc]
        rate = recipe.tokens / taken[precision]
        share = gauges.mfu(rate, recipe.shape.flops_per_token(length), peak, 1)
        note = f"{1000 * taken[precision]:.0f} ms a step, MFU {share}"
        yield Figure(name=f"{preset} {precision.value}", value=rate, unit="tokens/s", note=note)
    gain = taken[Precision.BF16] / taken[Precision.FP8]
    yield Figure(name="FP8 step against bf16", value=gain, unit="x", goal=1.3, at_least=True)


def error(name: str, got: torch.Tensor, exact: torch.Tensor) -> Figure:
    value = ((got.double() - exact).norm() / exact.norm()).item()
    return Figure(name=name, value=100 * value, unit="%", goal=0.5, note="a result in bf16 is off by 0.17")


def timed(action: Callable[[], object], count: int = 20) -> float:
    """Seconds per call."""
    action()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(count):
        action()
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / count


if __name__ == "__main__":
    sys.exit(main())
