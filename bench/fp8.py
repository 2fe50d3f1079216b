"""What FP8 costs in accuracy: each product against float64, and the loss of a small decoder against bf16 and fp32.

    .venv/bin/python bench/fp8.py [--steps 200] [--preset tiny] [--seeds 1]

On a CPU the products are emulated with the hardware's rounding. The gap between two seeds of bf16 stands beside the gap
between precisions: on models of this size it is the larger one, so nothing stronger than "within 2 %" is claimed here.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.figure import Figure, hand_over, table
from dsched.jobs.runtime.elastic import World
from dsched.jobs.train import fp8
from dsched.jobs.train.shape import PRESETS, Precision
from dsched.jobs.train.training import Recipe, Training


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--preset", choices=PRESETS, default="tiny")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = [product(outliers=False), product(outliers=True), *losses(options.preset, options.steps, options.seeds)]
    print(table(found))
    hand_over(found)
    return 0


def product(*, outliers: bool) -> Figure:
    dice = torch.Generator().manual_seed(0)
    x, w = torch.randn(512, 1024, generator=dice), torch.randn(768, 1024, generator=dice)
    if outliers:
        x[torch.rand(x.shape, generator=dice) < 1e-3] *= 100
    exact = x.double() @ w.double().mT
    error = ((fp8.linear(x.bfloat16(), w).double() - exact).norm() / exact.norm()).item()
    name = f"FP8 product against float64{', 0.1 % outliers x 100' if outliers else ''}"
    return Figure(name=name, value=100 * error, unit="%", goal=4.0)


def losses(preset: str, steps: int, seeds: int) -> list[Figure]:
    """Mean loss of the last quarter, relative to bf16 with the same seed and data."""
    found = []
    for seed in range(1, seeds + 1):
        usual = last(preset, Precision.BF16, steps, seed)
        for precision in (Precision.FP8, Precision.FP32):
            gap = 100 * (last(preset, precision, steps, seed) / usual - 1)
            goal = 2.0 if precision is Precision.FP8 else None
            name = f"loss after {steps} steps, {precision.value} against bf16, seed {seed}"
            found.append(Figure(name=name, value=abs(gap), unit="%", goal=goal, note=f"{gap:+.2f}, bf16 {usual:.4f}"))
        gap = 100 * (last(preset, Precision.BF16, steps, seed + 100) / usual - 1)
        name = f"  bf16 with another seed's weights and data, seed {seed}"
        found.append(Figure(name=name, value=abs(gap), unit="%", note=f"{gap:+.2f}"))
    return found


def last(preset: str, precision: Precision, steps: int, seed: int) -> float:
    recipe = Recipe(seed=seed, shape=PRESETS[preset], precision=precision, shards=4)
    training = Training(recipe, World(shards=4))
    seen = [training.step().loss for _ in range(steps)]
    quarter = seen[-steps // 4 :]
    return sum(quarter) / len(quarter)


if __name__ == "__main__":
    sys.exit(main())
