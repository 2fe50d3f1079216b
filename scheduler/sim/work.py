"""What jobs really have to do: the work, the checkpoints that exist, and one generation at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from dsched.scheduler.core.feasible import accelerator_matches
from dsched.scheduler.core.hardware import Shape
from dsched.scheduler.core.job import Need, Spec
from dsched.scheduler.core.units import HOUR, SECOND, Instant, Millis

STEPS: Final = 10_000  # of a job that names none: fine enough that a checkpoint loses nothing by rounding
HOURS: Final = 24.0  # of work in a job that names none


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long things take on the simulated machines, wall time."""

    boot: Millis = Millis(150 * SECOND)  # launch to agent: what GPU machines of both clouds need, about
    start: Millis = Millis(20 * SECOND)  # order to processes
    restore: Millis = Millis(60 * SECOND)  # processes to first step: read the checkpoint, compile
    write: Millis = Millis(20 * SECOND)  # one checkpoint's stall
    peers: Millis = Millis(10 * SECOND)  # until ranks notice that another of their gang is gone


def pace_of(need: Need, shape: Shape, nodes: int, sold: Sequence[Shape]) -> float:
    """Reference hours that such a gang works off in an hour: throughput grows with peak TFLOPS.

    The reference is `gpus_min` of the first GPU model that the job names, in its fastest shape that is sold.
    """
    if need.cpu_only:
        return 1.0
    fp8 = need.fp8 or need.fp8_required
    per_gpu = [(each.accelerator, each.tflops(fp8=fp8) / each.gpus) for each in sold if each.accelerator and each.gpus]
    named = [[tflops for chip, tflops in per_gpu if accelerator_matches(wanted, chip)] for wanted in need.accelerators]
    first = next((found for found in named if found), [tflops for _, tflops in per_gpu])
    return nodes * shape.tflops(fp8=fp8) / (need.gpus_min * max(first))


@dataclass(slots=True)
class Work:
    """One job's truth. What is saved survives every machine."""

    hours: float  # on the reference gang, all of it
    steps: int
    saved: int = 0
    done: bool = False
    redone: int = 0  # steps computed twice
    reached: int = 0  # the furthest step that was computed

    @classmethod
    def of(cls, spec: Spec, share: float = 1.0) -> Work:
        """`share`: how much it really is of what the user estimated."""
        hours = HOURS if spec.duration is None else spec.duration / HOUR
        return cls(hours=hours * share, steps=spec.steps or STEPS)


@dataclass(slots=True, eq=False)
class Run:
    """One generation at work. It makes progress while all of its ranks are there."""

    job: str
    generation: int
    world: int  # ranks
    every: Millis
    work: Work
    rate: float  # steps per wall millisecond
    first: int = 0  # the step that it begins with
    up: dict[str, int] = field(default_factory=dict)  # node -> its ranks that are up
    begun: Instant | None = None  # wall: its first step
    frozen: int | None = None  # the step at which it was told to stop
    whole: bool = True  # no rank of it was lost

    @property
    def key(self) -> tuple[str, int]:
        return self.job, self.generation

    def step(self, wall: int) -> int:
        """The step that is reached by now."""
        if self.frozen is not None:
            return self.frozen
        if self.begun is None:
            return self.first
        return min(self.work.steps, self.first + int(max(0, wall - self.begun) * self.rate))

    def ends(self) -> int:
        """Wall: when its last step is done, if nothing happens to it."""
        assert self.begun is not None, "a run ends after it began"
        left = self.work.steps - self.first
        return self.begun + (int(left / self.rate) + 1 if left > 0 else 0)
