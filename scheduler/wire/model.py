"""The `model:` part of a spec: what the job trains, so that its speed and memory are known before it runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from dsched.scheduler.core.speed.model import Layout, Model, Precision
from dsched.scheduler.core.speed.presets import PRESETS
from dsched.scheduler.wire import quantity as q
from dsched.scheduler.wire.explain import at
from dsched.scheduler.wire.field import NAME

PARAMETERS_MAX: Final = 1e14  # a hundred times the largest that was published: a typo beyond it
TOKENS_MAX: Final = 1e16
_SIZES: Final = ("experts", "top_k", "layers", "hidden", "heads", "sequence")


def _amount(given: Any) -> str:
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        raise ValueError("must be a number such as 671B, 37B or 14.8T")
    q.amount(str(given))
    return str(given)


def _batch(given: Any) -> str:
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        raise ValueError("must be tokens such as 4M, or 1024 sequences")
    q.batch(str(given))
    return str(given)


Amount = Annotated[
    str,
    BeforeValidator(_amount),
    WithJsonSchema({"type": ["number", "string"], "pattern": q.AMOUNT_PATTERN, "examples": ["671B"]}),
]
Batch = Annotated[
    str,
    BeforeValidator(_batch),
    WithJsonSchema({"type": ["number", "string"], "pattern": q.BATCH_PATTERN, "examples": ["4M", "1024 sequences"]}),
]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Ways = Annotated[int, Field(ge=1, le=16_384)]


class ModelSpec(BaseModel):
    """What a job trains. All of it is optional; the name of a published model fills in its numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)

    name: Annotated[str, Field(pattern=NAME)] | None = None
    """The key under which jobs share measured speeds; the job's name when absent. deepseek-v3, llama-3-70b and other
    published models bring their numbers along."""
    parameters: Amount | None = None
    """All of them: 671B. Without this nothing is known before the first measured step."""
    active: Amount | None = None
    """Parameters that one token uses, of a mixture of experts: 37B."""
    experts: Count | None = None
    """Routed experts of each MoE layer."""
    top_k: Count | None = None
    """Of those, used per token."""
    layers: Count | None = None
    """Transformer layers."""
    hidden: Count | None = None
    """Width of the model."""
    heads: Count | None = None
    """Attention heads."""
    sequence: Count | None = None
    """Tokens of one sequence."""
    batch: Batch | None = None
    """Of one step, of all replicas together: tokens (4M) or sequences (1024 sequences). Held constant at every size."""
    tokens: Amount | None = None
    """To train on in all: 14.8T. The work, where no duration is stated."""
    precision: Literal["bf16", "fp8"] | None = None
    """Of the matrix products; fp8 counts only on chips that have it."""
    optimizer_bytes: Annotated[float, Field(ge=0, le=64)] | None = None
    """Per parameter: 12 for Adam with an fp32 master copy and fp32 moments, 8 with bf16 moments."""
    tp: Ways | None = None
    """Tensor parallelism, within a node. Absent: whatever fits best."""
    pp: Ways | None = None
    """Pipeline stages."""
    ep: Ways | None = None
    """Expert parallelism: divides the experts and the data-parallel replicas."""
    dp: Ways | None = None
    """Data-parallel replicas. Absent: as many as the gang has room for."""

    @model_validator(mode="after")
    def _agrees(self) -> ModelSpec:
        model = to_core(self, "model", fp8=False, steps=None)
        if model.active > model.parameters:
            raise at(("active",), "more parameters are active than there are; keep active below parameters")
        if 0 < model.active < model.parameters and model.experts < 2:
            raise at(("active",), "fewer parameters are active than there are, so experts are needed: experts: 64")
        if model.top_k > model.experts:
            raise at(("top_k",), f"only {model.experts} experts to choose from")
        layout = model.layout
        if layout.ep > 1 and (not model.experts or model.experts % layout.ep):
            raise at(("ep",), f"{model.experts} experts cannot be divided by {layout.ep}")
        if layout.tp and model.heads and model.heads % layout.tp:
            raise at(("tp",), f"{model.heads} heads cannot be divided by {layout.tp}")
        if layout.pp and model.layers and layout.pp > model.layers:
            raise at(("pp",), f"more stages than the {model.layers} layers")
        return self


def to_core(spec: ModelSpec, job: str, *, fp8: bool, steps: int | None) -> Model:
    """The model as the core knows it. `fp8`: the job may use it, so that precision need not be said again."""
    name = spec.name or job
    model = PRESETS.get(spec.name or "", Model(name=name))
    given: dict[str, Any] = {size: told for size in _SIZES if (told := getattr(spec, size)) is not None}
    for field in ("parameters", "active", "tokens"):
        if (told := getattr(spec, field)) is not None:
            given[field] = q.amount(told)
    if spec.optimizer_bytes is not None:
        given["optimizer_bytes"] = float(spec.optimizer_bytes)
    if spec.precision is not None or (fp8 and name not in PRESETS):
        given["precision"] = Precision(spec.precision or "fp8")
    layout = Layout(tp=spec.tp or 0, pp=spec.pp or 0, ep=spec.ep or 0, dp=spec.dp or 0)
    model = replace(model, layout=layout, **given)
    if spec.batch is not None:
        count, unit = q.batch(spec.batch)
        model = replace(model, batch=round(count * (model.length if unit == "sequences" else 1)))
    if steps and model.batch and not model.tokens:
        model = replace(model, tokens=float(steps * model.batch))
    return model
