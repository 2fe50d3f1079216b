"""Published models, so that a spec may say `model: deepseek-v3`. Numbers from each model's report or configuration."""

from __future__ import annotations

from typing import Final

from dsched.scheduler.core.speed.model import Model, Precision

_DENSE: Final = (
    # arXiv 2407.21783, table 3
    Model(name="llama-3-8b", parameters=8.03e9, layers=32, hidden=4096, heads=32, sequence=8192),
    Model(name="llama-3-70b", parameters=70.6e9, layers=80, hidden=8192, heads=64, sequence=8192),
    Model(name="llama-3-405b", parameters=405e9, layers=126, hidden=16384, heads=128, sequence=8192, batch=16 << 20),
    # arXiv 2505.09388, table 1
    Model(name="qwen3-32b", parameters=32.8e9, layers=64, hidden=5120, heads=64, sequence=4096),
)
_SPARSE: Final = (
    # arXiv 2401.04088, table 1
    Model(
        name="mixtral-8x7b", parameters=46.7e9, active=12.9e9, experts=8, top_k=2,
        layers=32, hidden=4096, heads=32, sequence=4096,
    ),
    # arXiv 2405.04434, appendix B
    Model(
        name="deepseek-v2-lite", parameters=15.7e9, active=2.4e9, experts=64, top_k=6,
        layers=27, hidden=2048, heads=16, sequence=4096,
    ),
    # arXiv 2412.19437, section 4.2: 15,360 sequences of 4,096 tokens; FP8 products, bf16 moments
    Model(
        name="deepseek-v3", parameters=671e9, active=37e9, experts=256, top_k=8,
        layers=61, hidden=7168, heads=128, sequence=4096, batch=15_360 * 4096,
        precision=Precision.FP8, optimizer_bytes=8.0,
    ),
    # arXiv 2505.09388, table 2
    Model(
        name="qwen3-30b-a3b", parameters=30.5e9, active=3.3e9, experts=128, top_k=8,
        layers=48, hidden=2048, heads=32, sequence=4096,
    ),
)  # fmt: skip

PRESETS: Final = {model.name: model for model in (*_DENSE, *_SPARSE)}
