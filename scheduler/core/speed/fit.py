"""The best parallel layout of a model on so many nodes of a shape, or why there is none.

Layouts obey: tp divides heads and hidden size and stays within a node; pp is at most the number of layers; ep divides
the experts and dp; world = tp x pp x dp; every replica gets the same number of sequences. What the user fixed is fixed.
Among those that fit in memory the fastest by the roofline is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from dsched.scheduler.core.hardware import Shape
from dsched.scheduler.core.speed.memory import GIB, Memory, Recompute, needed, usable
from dsched.scheduler.core.speed.model import Layout, Model
from dsched.scheduler.core.speed.roofline import Estimate, estimate

KEPT: Final = 4096  # fits remembered: shapes x sizes x models of a busy queue; each some 300 bytes
SIZES_ALL: Final = 12  # sizes of a range that are all looked at
PIPELINE_MAX: Final = 64  # stages; deeper pipelines are not run


class Fit(NamedTuple):
    """The chosen layout on these nodes."""

    layout: Layout
    recompute: Recompute
    sharded: bool  # weights and gradients spread over the data-parallel group
    memory: Memory
    step: Estimate

    @property
    def words(self) -> str:
        extras = [f"{self.recompute} recompute"] if self.recompute is not Recompute.NONE else []
        return ", ".join([self.layout.words + (" sharded" if self.sharded else ""), *extras])


class Misfit(NamedTuple):
    """No layout: none divides evenly (`least` is None), or the smallest need of memory is too much."""

    words: str
    least: Memory | None


@lru_cache(maxsize=KEPT)
def fit(model: Model, shape: Shape, nodes: int) -> Fit | Misfit:
    """The fastest layout that fits. `model.known` must hold, and the shape have GPUs."""
    best: Fit | None = None
    least: tuple[Memory, Layout] | None = None
    chip = shape.accelerator
    assert chip is not None, "only machines with GPUs can hold a model"
    for layout in layouts(model, shape, nodes):
        found, smallest = _try(model, shape, nodes, layout, usable(chip))
        if found is not None and (best is None or found.step.tokens_per_s > best.step.tokens_per_s):
            best = found
        if least is None or smallest.total < least[0].total:
            least = smallest, layout
    if best is not None:
        return best
    if least is None:
        return Misfit(_uneven(model, shape, nodes), None)
    memory, layout = least
    room = f"{chip.name} leaves {usable(chip) / GIB:,.0f} GiB"
    return Misfit(f"needs {memory.words} per GPU at least ({layout.words}, full recompute); {room}", memory)


def _try(model: Model, shape: Shape, nodes: int, layout: Layout, room: float) -> tuple[Fit | None, Memory]:
    """The fastest way to run this layout within `room` bytes, and the least that it needs at all."""
    best: Fit | None = None
    memory = needed(model, layout, Recompute.FULL, sharded=True)
    if memory.total > room:
        return None, memory
    for sharded in (False, True):
        for recompute in Recompute:
            held = needed(model, layout, recompute, sharded=sharded)
            if held.total > room:
                continue
            step = estimate(model, shape, nodes, layout, recompute, sharded=sharded)
            if best is None or step.tokens_per_s > best.step.tokens_per_s:
                best = Fit(layout, recompute, sharded, held, step)
            break  # less recomputation is always faster
    return best, memory


def layouts(model: Model, shape: Shape, nodes: int) -> Iterator[Layout]:
    """Every layout that divides evenly, the user's numbers kept."""
    world, wish = nodes * shape.gpus, model.layout
    for tp in _allowed(wish.tp, _divisors(shape.gpus)):
        if shape.gpus % tp or (model.heads and model.heads % tp) or (model.hidden and model.hidden % tp):
            continue
        for pp in _allowed(wish.pp, _divisors(world // tp)):
            if pp > min(model.depth, PIPELINE_MAX) or world % (tp * pp):
                continue
            dp = world // (tp * pp)
            if wish.dp not in (0, dp) or (model.sequences is not None and model.sequences % dp):
                continue
            yield from (Layout(tp=tp, pp=pp, ep=ep, dp=dp) for ep in _expert_groups(model, dp))


def sizes(model: Model, shape: Shape, among: range) -> tuple[int, ...]:
    """The gang sizes worth asking about: all of a short range; of a long one 2^k, 3 x 2^k and its ends.

    Of a known model only those that it fits on. Raises ValueError for an empty range.
    """
    return _sizes(model, shape, among.start, among.stop)


@lru_cache(maxsize=KEPT)
def _sizes(model: Model, shape: Shape, start: int, stop: int) -> tuple[int, ...]:
    if stop <= start:
        raise ValueError(f"no gang sizes from {start} to {stop - 1}")
    some = list(range(start, stop))
    if len(some) > SIZES_ALL:
        round_ones = {odd << k for odd in (1, 3) for k in range(stop.bit_length())}
        some = sorted({start, stop - 1} | (round_ones & set(some)))
    if not model.known or shape.accelerator is None:
        return tuple(some)
    return tuple(n for n in some if isinstance(fit(model, shape, n), Fit))


def nearest(model: Model, shape: Shape, nodes: int, nodes_max: int) -> int | None:
    """The smallest larger gang of this shape that would hold the model, among doublings; None up to `nodes_max`."""
    while (nodes := nodes * 2) <= nodes_max:
        if isinstance(fit(model, shape, nodes), Fit):
            return nodes
    return None


def _expert_groups(model: Model, dp: int) -> list[int]:
    if not model.moe:
        return [1] if model.layout.ep in (0, 1) else []
    return [ep for ep in _allowed(model.layout.ep, _divisors(dp)) if dp % ep == 0 and model.experts % ep == 0]


def _allowed(wish: int, choices: list[int]) -> list[int]:
    return [wish] if wish else choices


@lru_cache(maxsize=1024)
def _cached_divisors(number: int) -> tuple[int, ...]:
    return tuple(n for n in range(1, number + 1) if number % n == 0)


def _divisors(number: int) -> list[int]:
    return list(_cached_divisors(number))


def _uneven(model: Model, shape: Shape, nodes: int) -> str:
    world = nodes * shape.gpus
    wishes = [
        f"{model.heads} heads" if model.heads else "",
        f"{model.depth} layers",
        f"{model.experts} experts" if model.moe else "",
        f"{model.sequences} sequences a step" if model.sequences else "",
        f"the layout {model.layout.words}" if model.layout != Layout() else "",
    ]
    return f"{world} GPUs cannot be divided evenly for " + ", ".join(wish for wish in wishes if wish)
