"""A crowd of jobs, made up from a seed: what a team with too many trainings submits in a month."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from dsched.scheduler.core.job import Need, Spec
from dsched.scheduler.core.units import HOUR, MINUTE, Instant, Millis

GPUS: Final = (8, 8, 8, 16, 16, 32)  # of a gang: one machine mostly, as published traces of shared clusters say
HOURS: Final = (12.0, 0.8)  # median and sigma of a lognormal: a day and a half is one in ten
HOURS_RANGE: Final = (1.0, 96.0)
SLACK: Final = (1.25, 1.5, 2.0, 3.0)  # deadline / work, of the jobs that have a deadline
LOOSE: Final = 0.3  # share of jobs without
STEPS: Final = 1_000
DRAIN: Final = Millis(2 * MINUTE)  # to save before a planned move


def crowd(
    seed: int, count: int, start: Instant, lasting: Millis, accelerators: Sequence[str]
) -> list[tuple[int, Spec]]:
    """(when, what) of every submission, in order. They come by chance over the first four fifths of the time."""
    rng = Random(f"{seed}/crowd")  # noqa: S311 - a crowd, not a secret
    times = sorted(start + int(rng.random() * lasting * 0.8) for _ in range(count))
    return [(at, _job(rng, number, at, accelerators)) for number, at in enumerate(times)]


def again(specs: Sequence[Spec], count: int, start: Instant, lasting: Millis, seed: int) -> list[tuple[int, Spec]]:
    """These specs in turn, `count` in all; a deadline keeps its distance from the submission."""
    rng = Random(f"{seed}/crowd")  # noqa: S311 - a crowd, not a secret
    times = sorted(start + int(rng.random() * lasting * 0.8) for _ in range(count)) if count > len(specs) else []
    return list(_shifted(specs, times or [start] * count, start))


def _shifted(specs: Sequence[Spec], times: Sequence[int], start: Instant) -> Iterator[tuple[int, Spec]]:
    for number, at in enumerate(times):
        spec = specs[number % len(specs)]
        deadline = None if spec.deadline is None else Instant(spec.deadline + at - start)
        yield at, replace(spec, deadline=deadline)


def _job(rng: Random, number: int, at: int, accelerators: Sequence[str]) -> Spec:
    gpus = rng.choice(GPUS)
    median, sigma = HOURS
    hours = min(max(rng.lognormvariate(math.log(median), sigma), HOURS_RANGE[0]), HOURS_RANGE[1])
    hours = round(hours, 2)
    loose = rng.random() < LOOSE
    slack = rng.choice(SLACK)
    return Spec(
        name=f"train-{number}",
        run="train",
        need=Need(accelerators=tuple(accelerators), gpus_min=gpus, gpus_max=gpus),
        duration=Millis(round(hours * HOUR)),
        deadline=None if loose else Instant(at + round(hours * slack * HOUR)),
        priority=rng.choice((0, 0, 0, 1)),
        steps=STEPS,
        drain=DRAIN,
    )
