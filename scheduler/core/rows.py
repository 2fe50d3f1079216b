"""What we know, row by row: jobs, their attempts, machines, launches, pools, budgets, alerts, money.

Rows are immutable; `State.fold` (snapshot.py) replaces them, and is the only thing that does. Those at the end are not
durable: they are learned again after a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from dsched.scheduler.core.changeover import UNSEEN, Delay
from dsched.scheduler.core.job import Spec
from dsched.scheduler.core.market import Pool
from dsched.scheduler.core.speed.posterior import Measured
from dsched.scheduler.core.state import TERMINAL, IntentState, JobState, NodeState
from dsched.scheduler.core.units import Charge, Instant, MicroUsd, MicroUsdPerHour, Millis, Moment

ACTIVE: Final = frozenset({JobState.STARTING, JobState.RUNNING, JobState.DRAINING})


class After(StrEnum):
    """What follows a drain."""

    NOTHING = ""
    MOVE = "move"  # to the next placement
    PAUSE = "pause"
    CANCEL = "cancel"
    HOLD = "hold"  # the budget is spent: checkpoint, then hold
    YIELD = "yield"  # to a job of higher priority: checkpoint, then queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    id: str
    key: str  # the client's idempotency key
    spec: Spec
    state: JobState
    submitted: Moment
    reason: str = ""  # why it is where it is, one sentence
    generation: int = 0  # the last one given out; the fence
    nodes: tuple[str, ...] = ()  # of the current generation; empty when none
    next_nodes: tuple[str, ...] = ()  # bought or idle, waiting for the proof that the old ones are gone
    last_nodes: tuple[str, ...] = ()  # of the last generation that was given out: another set is a move
    after: After = After.NOTHING
    decision: str = ""  # id of the last decision
    places: tuple[str, ...] = ()  # a migration's wish, overrides spec.need.places once
    avoid: tuple[str, ...] = ()  # pools that refused or interrupted this job, newest last, bounded
    checkpoint_step: int = 0  # last committed
    checkpoint_bytes: int = 0  # its size, as the job told; 0: not told
    checkpoint_at: str = ""  # provider/region of the node that wrote it; "": there is none
    write: Millis | None = None  # wall: how long its checkpoints stall it, smoothed; None: not told
    strikes: int = 0  # ends without progress in a row
    failures: int = 0  # the job's own failures
    best_step: int = 0  # the step that the strike counter compares with
    due: Instant = Instant(0)  # wall: not placed before (back-off)
    moves: int = 0
    interruptions: int = 0
    yielded: int = 0  # times that it was preempted
    spent: Charge = Charge(0)
    baseline: Charge = Charge(0)  # the same intervals at the on-demand price of the same shape
    machine: Millis = Millis(0)  # market: time of machines booked, all of them together
    spot: Millis = Millis(0)  # of that on spot
    started: Instant | None = None  # market: first time running
    ran: Millis = Millis(0)  # market: time running, of the attempts that have ended
    ended: Instant | None = None  # market
    exit_code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One run of a job on one placement; key f"{job}/{generation}"."""

    job: str
    generation: int
    pool: str
    nodes: tuple[str, ...]
    world_size: int
    decided: Moment
    running: Moment | None = None
    ended: Moment | None = None
    outcome: str = ""  # "succeeded", "interrupted", "drained: pause", "exit 1", ...
    exits: Mapping[str, int] = field(default_factory=dict)  # rank -> exit code, as the nodes reported them
    cause: int | None = None  # exit code of the first rank that failed by itself
    lost: bool = False  # a node of it vanished
    tail: str = ""  # last log lines of that rank
    first_step: int | None = None
    last_step: int | None = None
    asked: Instant | None = None  # wall: when the first of its machines was asked for; None: all were there already


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine; id f"{token}.{index}"."""

    id: str
    token: str
    index: int
    pool: Pool
    gpus: int
    state: NodeState
    lease_until: Instant  # wall; the ledger's word, never shorter than the node's own
    rate: MicroUsdPerHour  # in force since `metered`
    ceiling: MicroUsdPerHour  # the most an hour may come to cost within a lease; what leases set aside
    rate_source: str
    rate_at: Instant  # market: when that price was observed
    on_demand: MicroUsdPerHour | None
    ref: str = ""  # the provider's id
    job: str = ""  # whose it is; "" when idle
    generation: int = 0  # given to it last; 0: none
    running: bool = False  # ranks of `generation` may be alive on it
    boot: str = ""  # which start of its agent was heard last
    asked: Instant | None = None  # wall: when its launch was planned; None once it served somebody
    launched: Instant | None = None  # market: billing starts
    metered: Instant | None = None  # market: billed up to here
    notice: Instant | None = None  # wall: taken at
    leaving: bool = False  # we want it gone: terminate until the provider proves it
    idle_since: Instant | None = None  # wall
    booked: tuple[LedgerEntry, ...] = ()  # the newest, bounded: a late word of its end takes back what came after it
    ended: Instant | None = None  # market
    ended_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A launch, durable before the cloud hears of it. The id is the idempotency token and the tag."""

    id: str
    state: IntentState
    provider: str
    job: str
    pool: Pool
    count: int
    nodes: tuple[str, ...]
    lease_until: Instant  # wall
    price_max: MicroUsdPerHour | None
    made: Moment
    tries: int = 0
    due: Instant = Instant(0)  # wall: not sent again before
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolMemory:
    """What a pool did to us: the cool-down and the evidence for its hazard. Key: pool id."""

    pool: str
    cool_until: Instant = Instant(0)  # market
    why: str = ""
    refusals: int = 0  # in a row; a launch that succeeds clears them
    interruptions: int = 0
    exposure: Millis = Millis(0)  # market time our nodes lived there
    seen: float = 0.0  # interruptions, forgotten with time; see hazard.py
    expected: float = 0.0  # how many the usual rate would have brought; forgotten alike
    aged: Instant = Instant(0)  # market: until when they have been
    watched: Instant = Instant(0)  # market: until when lives there have been counted; machines side by side count once
    struck: Instant = Instant(0)  # market: the last interruption that was counted
    delay: Delay = UNSEEN  # from asking for a machine to the first new step


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    name: str
    limit: MicroUsd | None = None  # None: no limit
    spent: Charge = Charge(0)
    fired: tuple[int, ...] = ()  # percentages already alerted
    exhausted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """The outbox: written with the state change that caused it, delivered at least once."""

    id: str
    made: Moment
    severity: str  # "info" | "warning" | "critical"
    title: str
    text: str
    tries: int = 0
    due: Instant = Instant(0)  # wall
    sent: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """An interval of spend. Never changed once written; key f"{node}/{start}/{kind}"."""

    node: str
    job: str  # "" while idle
    budget: str
    pool: str
    kind: str  # "compute" | "minimum" | "orphan" | "egress" | "disk" | "hold" | "correction" (takes back)
    rate: MicroUsdPerHour
    on_demand: MicroUsdPerHour | None
    start: Instant  # market
    end: Instant
    source: str  # where the rate came from
    quoted: Instant  # and when it was observed
    owed: Charge  # rate x time, or the exact amount for the other kinds
    baseline: Charge


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A stored plan report for one job: what was chosen and why everything else was not."""

    id: str
    job: str
    at: Moment
    report: Mapping[str, Any]  # see report.py


class Usual(NamedTuple):
    """The price that a pool usually has: a mean that forgets. Not durable: a day of watching brings it back."""

    price: float  # micro-dollars per node and hour
    at: Instant  # market


@dataclass(slots=True)
class Progress:
    """Last values of a running job; not durable."""

    step: int = 0
    steps: int | None = None
    loss: float | None = None
    tokens_per_s: float | None = None
    step_ms: float | None = None
    at: Instant = Instant(0)  # wall


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A machine with our tag and without a row: what it costs, from when on nobody has paid for it. Not durable."""

    node: str
    pool: Pool
    since: Instant  # market
    least: Instant  # market: paid up to here, however short it lived
    rate: MicroUsdPerHour
    on_demand: MicroUsdPerHour | None
    source: str
    quoted: Instant
    missing: int = 0  # lists in a row without it


class Streak(NamedTuple):
    """How long a pool has been up or down, as far as anybody saw."""

    up: bool
    since: Instant  # market
    rose: Instant | None = None  # market: when the last time up began, where it is down now


class Waits(NamedTuple):
    """What was news when a job was told to wait, and for which pools: only later news of them is worth another look."""

    heard: int
    pools: frozenset[str]


def live(job: Job) -> bool:
    return job.state not in TERMINAL


def wants_nodes(job: Job) -> bool:
    """Whether a job that holds nodes is to be given others, and has none yet."""
    if job.next_nodes:
        return False
    if job.state is JobState.DRAINING:
        return job.after in (After.NOTHING, After.MOVE)
    return job.state is JobState.RUNNING and job.after is After.MOVE


ROWS: Final[Mapping[str, type]] = {
    "job": Job,
    "attempt": Attempt,
    "node": Node,
    "intent": Intent,
    "pool": PoolMemory,
    "speed": Measured,
    "budget": Budget,
    "alert": Alert,
    "decision": Decision,
    "ledger": LedgerEntry,
}
