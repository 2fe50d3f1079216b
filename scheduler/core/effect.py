"""What the core asks for: calls to providers, words to agents, alerts, foresight, and a tick in time.

Effects are carried out once the events of their transaction are durable. They may be lost in a crash: whatever must
happen is asked for again by the comparison after the restart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsched.scheduler.core.units import Instant, Millis

if TYPE_CHECKING:
    from dsched.scheduler.core.proposal import Puzzle
    from dsched.scheduler.core.timely.foresight import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLaunch:
    intent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTerminate:
    provider: str
    refs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallObserve:
    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRenew:
    """Tell a provider that keeps leases itself."""

    provider: str
    ref: str
    until: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class TellStart:
    """Start this generation's ranks on this node. Everything else about it is in the rows."""

    node: str
    job: str
    generation: int
    ranks: tuple[int, ...]
    world_size: int
    master: str  # node id of rank 0
    resume: bool
    interval: Millis


@dataclass(frozen=True, slots=True, kw_only=True)
class TellStop:
    node: str
    job: str
    generation: int  # this and every older one
    grace: Millis
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TellCheckpoint:
    """Checkpoint now; or, with an interval, so often from now on (lost, it is told again at the next hello)."""

    node: str
    job: str
    generation: int
    interval: Millis | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TellLeave:
    node: str
    grace: Millis


@dataclass(frozen=True, slots=True, kw_only=True)
class SendAlert:
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresee:
    """Have a worker make an outlook; answered by MarketForeseen."""

    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Propose:
    """Have a worker look for a better plan; answered by Proposed, or not at all."""

    puzzle: Puzzle


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeAt:
    """Send a Tick at this wall instant."""

    at: Instant


Effect = (
    CallLaunch
    | CallTerminate
    | CallObserve
    | CallRenew
    | TellStart
    | TellStop
    | TellCheckpoint
    | TellLeave
    | SendAlert
    | Foresee
    | Propose
    | WakeAt
)
