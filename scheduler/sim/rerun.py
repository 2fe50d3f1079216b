"""Run again what a daemon recorded: the same core, the same messages, and whether it decides the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

from dsched.scheduler.core.message import Refusal
from dsched.scheduler.core.units import Instant
from dsched.scheduler.engine.digest import Digest
from dsched.scheduler.engine.mind import Mind
from dsched.scheduler.engine.record import Sum, Told, read


@dataclass(frozen=True, slots=True)
class Rerun:
    messages: int
    events: int
    digest: str  # as decided now
    compared: int  # events up to the last sum that the daemon wrote
    recorded: str  # the daemon's digest there
    differs: int | None  # the first sum, in events, at which the two differ; None: at none


def rerun(path: Path) -> Rerun:
    """Raises record.BadRecord or OSError."""
    begun, told = read(path)
    digest = Digest()
    rng = Random(begun.seed)  # noqa: S311 - jitter, not secrets
    mind = Mind(begun.state, rng, begun.policy, begun.terms, (digest,))
    messages, compared, recorded = 0, 0, ""
    differs: int | None = None
    for each in told:
        if isinstance(each, Sum):
            compared, recorded = each.events, each.digest
            if differs is None and (digest.text, digest.events) != (each.digest, each.events):
                differs = each.events
        else:
            messages += 1
            _tell(mind, each)
    return Rerun(messages, digest.events, digest.text, compared, recorded, differs)


def _tell(mind: Mind, told: Told) -> None:
    mind.state.heard.update({name: Instant(at) for name, at in told.heard.items()})
    mind.state.progress.update(told.progress)
    try:
        mind.handle(told.message, told.now)
    except Refusal:
        return  # as it was refused then
