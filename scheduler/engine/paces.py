"""Step times on their way to the core: averaged here, and told only when there is twice as much to say.

Reports come once a second from every job; the core, whose messages are durable events, hears of the first few, then of
as many again, and so on: some twenty messages in a job's life.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from dsched.scheduler.core.message import StepsMeasured
from dsched.scheduler.core.snapshot import Job

FIRST: Final = 4  # reports before the first word: the first steps of a program are its slowest
SKIPPED: Final = 2  # of them: compilers and caches warm up
JOBS_MAX: Final = 20_000  # jobs that run at a time; beyond that the oldest are averaged anew


@dataclass(slots=True)
class _Pace:
    generation: int
    heard: int = 0  # reports in all
    told: int = 0  # of those, spoken of
    steps: float = 0.0  # sum of ln(step_ms) since
    tokens: float = 0.0  # sum of ln(tokens_per_s) since
    with_steps: int = 0
    with_tokens: int = 0


class Paces:
    """What running generations have reported since the core was told."""

    def __init__(self) -> None:
        self._by_job: dict[str, _Pace] = {}

    def told(self, job: Job, fact: dict[str, Any]) -> StepsMeasured | None:
        """Take one report; answers with the message that is due, if one is."""
        pace = self._by_job.get(job.id)
        if pace is None or pace.generation != job.generation:
            self._by_job.pop(job.id, None)
            while len(self._by_job) >= JOBS_MAX:
                del self._by_job[next(iter(self._by_job))]
            pace = self._by_job[job.id] = _Pace(job.generation)
        step_ms, tokens = _positive(fact.get("step_ms")), _positive(fact.get("tokens_per_s"))
        if step_ms is None and tokens is None:
            return None
        pace.heard += 1
        if pace.heard <= SKIPPED:
            return None
        if step_ms is not None:
            pace.steps, pace.with_steps = pace.steps + math.log(step_ms), pace.with_steps + 1
        if tokens is not None:
            pace.tokens, pace.with_tokens = pace.tokens + math.log(tokens), pace.with_tokens + 1
        return _due(job, pace)


def _due(job: Job, pace: _Pace) -> StepsMeasured | None:
    fresh = pace.heard - SKIPPED - pace.told
    if fresh < max(FIRST, pace.told):
        return None
    message = StepsMeasured(
        job=job.id,
        generation=pace.generation,
        reports=fresh,
        step_ms=math.exp(pace.steps / pace.with_steps) if pace.with_steps else None,
        tokens_per_s=math.exp(pace.tokens / pace.with_tokens) if pace.with_tokens else None,
    )
    pace.told += fresh
    pace.steps = pace.tokens = 0.0
    pace.with_steps = pace.with_tokens = 0
    return message


def _positive(told: object) -> float | None:
    if isinstance(told, int | float) and math.isfinite(told) and told > 0:
        return float(told)
    return None
