"""How fast a gang works for a need: as measured, else by the roofline where the model is known, else by peak FLOPS."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from dsched.scheduler.core.hardware import Accelerator, Shape
from dsched.scheduler.core.speed.fit import Fit, fit
from dsched.scheduler.core.speed.posterior import ROOFLINE, UNKNOWN, Belief, Kind, Measured, believe
from dsched.scheduler.core.speed.roofline import flops

if TYPE_CHECKING:
    from dsched.scheduler.core.job import Need

NODE: Final = 8  # GPUs of the machine that the reference gang is made of, where it has so many
NETWORK: Final = 400  # Gbit/s per GPU of it: today's training machines


class Pace(NamedTuple):
    """Only ratios mean anything, unless `tokens` is told."""

    speed: float
    sigma: float  # of ln(speed)
    fit: Fit | None = None  # the layout, for a known model
    tokens: float | None = None  # per second, for a known model


def pace(need: Need, shape: Shape, nodes: int, known: Measured | None) -> Pace | None:
    """Of `nodes` machines of this shape; None: the need's model does not fit on them."""
    model = need.model
    if need.cpu_only:
        return Pace(1.0, 0.0)
    if model is None or not model.known or shape.accelerator is None:
        believed = belief(need, shape, nodes, "", known)
        return Pace(prior(need, shape, nodes) * math.exp(believed.mean), believed.sigma)
    found = fit(model, shape, nodes)
    if not isinstance(found, Fit):
        return None
    believed = belief(need, shape, nodes, found.layout.words, known)
    tokens = found.step.tokens_per_s * math.exp(believed.mean)
    return Pace(tokens, believed.sigma, found, tokens)


def belief(need: Need, shape: Shape, nodes: int, layout: str, known: Measured | None) -> Belief:
    """The correction of the prior. Nothing is corrected for needs without a model: nobody shares their speed."""
    if need.model is None:
        return Belief(0.0, UNKNOWN.chip)
    widths = ROOFLINE if need.model.known else UNKNOWN
    return believe(known, kind(need, shape, nodes, layout), widths)


def kind(need: Need, shape: Shape, nodes: int, layout: str) -> Kind:
    """The kind of gang that `nodes` of this shape are, with its prior."""
    chip = shape.accelerator.name if shape.accelerator else ""
    return Kind(
        accelerator=chip,
        gpus=max(1, nodes * shape.gpus),
        layout=layout,
        prior=math.log(prior(need, shape, nodes)),
    )


def prior(need: Need, shape: Shape, nodes: int) -> float:
    """Tokens per second by the roofline, for a known model that fits; else the gang's peak TFLOPS."""
    if need.model is not None and need.model.known and shape.accelerator is not None:
        found = fit(need.model, shape, nodes)
        if isinstance(found, Fit):
            return found.step.tokens_per_s
    return nodes * shape.tflops(fp8=need.fp8 or need.fp8_required)


def reference(need: Need, chip: Accelerator, gpus: int, known: Measured | None) -> Pace:
    """Of `gpus` of this chip in ordinary training machines, whatever is on sale: the gang of reference.

    A known model that does not fit there counts as if memory and communication cost nothing.
    """
    each = math.gcd(gpus, NODE)
    shape = Shape(name=chip.name, accelerator=chip, gpus=each, vcpus=0, memory_gib=0, network_gbit_s=NETWORK * each)
    found = pace(need, shape, gpus // each, known)
    if found is not None:
        return found
    model = need.model
    assert model is not None, "only a model can fail to fit"
    tokens = gpus * flops(model, chip) / model.flops_per_token
    return Pace(tokens, ROOFLINE.unit, None, tokens)
