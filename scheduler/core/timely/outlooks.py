"""The outlooks that jobs share by class: asked for ahead, kept while they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dsched.scheduler.core.draft import Draft
from dsched.scheduler.core.effect import Foresee
from dsched.scheduler.core.message import MarketForeseen
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.turns import due
from dsched.scheduler.core.units import SECOND, Instant, Millis

if TYPE_CHECKING:
    from dsched.scheduler.core.timely.foresight import Foreseen, Request

OUTLOOKS: Final = 16  # classes whose outlook is kept, each of some 10 MB
ASK_AGAIN: Final = Millis(30 * SECOND)  # wall: between the answer that there is none and the next question
UNANSWERED: Final = Millis(OUTLOOKS * 60 * SECOND)  # wall: a lone worker with a full queue takes no longer


def ask_ahead(draft: Draft, job: Job, *, wanted: Request | None, used: Request | None) -> None:
    """Ask for the outlook that is `wanted`, if there is any; `used`: the one that the job was judged by."""
    state, now = draft.state, draft.now
    draft.learn(state.blind, job.id, wanted.base if wanted is not None and used is None else None)
    if used is not None:
        _used(draft, used.base)
    if wanted is None or now.wall < state.foreseeing.get(wanted.base, now.wall):
        return
    draft.learn(state.foreseeing, wanted.base, Instant(now.wall + UNANSWERED))
    draft.do(Foresee(request=wanted))


def _used(draft: Draft, base: str) -> None:
    """The table is in the order of last use: the first is dropped first."""
    kept = draft.state.outlooks
    known: Foreseen | None = kept.get(base)
    if known is not None and next(reversed(kept)) != base:
        draft.learn(kept, base, None)
        draft.learn(kept, base, known)


def foreseen(draft: Draft, message: MarketForeseen) -> None:
    """An outlook is made, or none can be: who decided without one looks again. OUTLOOKS are kept, those used last."""
    state, base = draft.state, message.request.base
    none = message.foreseen is None
    draft.learn(state.foreseeing, base, Instant(draft.now.wall + ASK_AGAIN) if none else None)
    draft.learn(state.unforeseen, base, True if none else None)
    if message.foreseen is not None:
        _keep(draft, base, message.foreseen)
    for name in [name for name, wanted in state.blind.items() if wanted == base]:
        draft.learn(state.blind, name, None)
        if name in state.revisits:
            draft.learn(state.revisits, name, draft.now.market)
    due(draft)


def _keep(draft: Draft, base: str, made: Foreseen) -> None:
    state = draft.state
    for old in list(state.outlooks)[: max(0, len(state.outlooks) - OUTLOOKS + 1)]:
        if old != base:
            draft.learn(state.outlooks, old, None)
    draft.learn(state.outlooks, base, None)
    draft.learn(state.outlooks, base, made)
