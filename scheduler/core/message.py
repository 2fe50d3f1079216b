"""What the core is told: wishes of people, words of agents, facts from providers, and the passing of time.

`handle(state, message, now, rng)` takes one of these and answers with events (made durable first), effects (carried out
afterwards) and, for people, an answer or a refusal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from dsched.scheduler.core.job import Spec
from dsched.scheduler.core.market import Offer, Pool
from dsched.scheduler.core.quota import Quota
from dsched.scheduler.core.units import Instant, MicroUsd, Millis

if TYPE_CHECKING:
    from dsched.scheduler.core.snapshot import Streak, Usual
    from dsched.scheduler.core.timely.foresight import Foreseen, Request


class Action(StrEnum):
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    MIGRATE = "migrate"
    CHECKPOINT = "checkpoint"


class Refusal(Exception):
    """A wish that cannot be granted. Nothing has changed.

    E402 the budget is spent          E407 no offer finishes by the deadline
    E404 no such job                  E409 not in the job's present state, or not the plan that was pinned
    E406 no hardware could ever do    E410 the node is not ours any more
    """

    def __init__(
        self, code: str, message: str, hint: str = "", where: str = "", nearest: Instant | None = None
    ) -> None:
        """`nearest`: the deadline that could be promised; on the market's clock."""
        super().__init__(message)
        self.code, self.message, self.hint, self.where, self.nearest = code, message, hint, where, nearest


# -- people ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """Answer: the job's id; the same key gives the same job."""

    spec: Spec
    key: str
    plan: str = ""  # refuse unless this plan would still be chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Answer: the job's id."""

    job: str
    action: Action
    by: str = ""
    now: bool = False  # cancel without a checkpoint
    to: tuple[str, ...] = ()  # migrate: place globs


@dataclass(frozen=True, slots=True, kw_only=True)
class SetBudget:
    name: str
    limit: MicroUsd | None
    by: str = ""


# -- providers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenNode:
    """One machine in a provider's list. The engine translates; the core knows no provider's types."""

    ref: str
    token: str
    index: int
    pool: Pool
    alive: bool
    launched: Instant  # market
    ended: Instant | None = None
    ended_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OffersSeen:
    provider: str
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotasSeen:
    """What a provider lets our account run, less what others of the account use: all of its quotas."""

    provider: str
    quotas: tuple[Quota, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesSeen:
    """A complete list. An error is never an empty list: that is no message at all."""

    provider: str
    nodes: tuple[SeenNode, ...]
    asked: Instant  # wall time at which the question was asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    intent: str
    nodes: tuple[SeenNode, ...]


class RefusedBy(StrEnum):
    CAPACITY = "capacity"
    QUOTA = "quota"
    PRICE = "price"
    AUTH = "auth"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRefused:
    intent: str
    by: RefusedBy
    why: str
    scope: str  # "pool" | "region" | "account" | "request"
    cooldown: Millis  # market


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchUnanswered:
    """Ambiguous or throttled: it may have happened. The same token again, later."""

    intent: str
    why: str
    retry: Millis  # wall


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeNoticed:
    """The cloud will take this node; heard from the agent or from the provider, whichever is first."""

    node: str
    deadline: Instant  # wall
    source: str
    by_node: bool = False  # the node itself told: it has cut its lease to the deadline


# -- agents ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Ranks of one generation on one node, as the agent sees them."""

    job: str
    generation: int
    state: str  # "starting" | "running" | "stopping" | "exited"
    exits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentHello:
    """An agent dialled in (again)."""

    node: str
    boot: str = ""  # random per start of the agent: another one means that every rank of before is dead
    running: tuple[Group, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FactLost:
    """An agent has given up a fact that we failed at again and again: a bug of ours, and a person should know."""

    node: str
    what: str
    job: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewLease:
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RanksStarted:
    node: str
    job: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RanksExited:
    """Every process of the generation on this node is gone and reaped."""

    node: str
    job: str
    generation: int
    exits: Mapping[str, int]
    drained: bool = False
    hung: bool = False
    tail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupBroke:
    node: str
    job: str
    generation: int
    command: str
    code: int
    tail: str = ""
    machine: bool = False  # the machine's fault, not the job's


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSaved:
    node: str
    job: str
    generation: int
    step: int
    uri: str = ""
    write: Millis | None = None
    stall: Millis | None = None  # of it, how long the job stood still
    size: int = 0  # bytes; 0: not told
    fallback: str = ""  # restore took an older one, and why


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstStep:
    """The first step of a generation: how long the interruption cost."""

    node: str
    job: str
    generation: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsMeasured:
    """What a generation's steps took on average, over so many reports since the last such message."""

    job: str
    generation: int
    reports: int
    step_ms: float | None = None  # wall
    tokens_per_s: float | None = None  # wall, of the whole gang


# -- the loop itself ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarted:
    """The daemon has just read its state from disk: every open intent is asked again, every node looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockJumped:
    """The wall clock was set by so much (negative: back), or this host slept: wall time is not what agents lived."""

    set_by: Millis = Millis(0)
    slept: Millis = Millis(0)
    held: Instant = Instant(0)
    """What an earlier process held back proofs until, on the clock before it was set; 0: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed: leases, back-offs, idle nodes, budgets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Something changed that may let a waiting job run. Sent by the loop, once per batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketForeseen:
    """A worker has made the outlook of a class of jobs. None: it could not, and is asked again later."""

    request: Request
    foreseen: Foreseen | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """A worker has solved a puzzle: which pool for which job. Empty: it found nothing."""

    id: str
    choice: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketRecalled:
    """What the journal remembers of earlier days: since when each pool has been up or down, and its usual price."""

    streaks: Mapping[str, Streak]
    usual: Mapping[str, Usual] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertTried:
    id: str
    ok: bool
    error: str = ""


Message = (
    Submit
    | Act
    | SetBudget
    | OffersSeen
    | QuotasSeen
    | NodesSeen
    | Launched
    | LaunchRefused
    | LaunchUnanswered
    | NodeNoticed
    | AgentHello
    | FactLost
    | RenewLease
    | RanksStarted
    | RanksExited
    | SetupBroke
    | CheckpointSaved
    | FirstStep
    | StepsMeasured
    | Restarted
    | ClockJumped
    | Tick
    | Place
    | MarketForeseen
    | MarketRecalled
    | Proposed
    | AlertTried
)
