"""What we know: the rows, and the state that holds them in memory.

Rows are immutable; `State.fold` replaces them, and is the only thing that does. What is not durable
(heartbeats, progress, offers) is kept beside the rows and is learned again after a restart.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, NamedTuple

from dsched.scheduler.core.changeover import UNSEEN, Delay
from dsched.scheduler.core.event import Event
from dsched.scheduler.core.job import Need, Spec
from dsched.scheduler.core.market import Offer, Pool
from dsched.scheduler.core.quota import Quota
from dsched.scheduler.core.speed.posterior import Measured
from dsched.scheduler.core.state import TERMINAL, IntentState, JobState, NodeState
from dsched.scheduler.core.units import Charge, Instant, MicroUsd, MicroUsdPerHour, Millis, Moment


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


_HELD: Final = {
    "job": "jobs",
    "attempt": "attempts",
    "node": "nodes",
    "intent": "intents",
    "pool": "pools",
    "speed": "speeds",
    "budget": "budgets",
    "alert": "alerts",
}

QueueKey = tuple[int, int, int, str]  # priority (negated), deadline, submitted, id: the order of service


class Streak(NamedTuple):
    """How long a pool has been up or down, as far as anybody saw."""

    up: bool
    since: Instant  # market
    rose: Instant | None = None  # market: when the last time up began, where it is down now


class Waits(NamedTuple):
    """What was news when a job was told to wait, and for which pools: only later news of them is worth another look."""

    heard: int
    pools: frozenset[str]


class Kind(NamedTuple):
    """A class of one user's jobs that fit the same offers and draw on the same budget: what one finds, all find."""

    need: Need
    budget: str
    user: str
    drain: Millis
    alone: str  # id of a job whose own deadline or limit decides; such a job is a class by itself


@dataclass(slots=True)
class State:
    """The working set. Its rows are mutated by `fold` alone; what is not durable is set by the core as it learns it."""

    jobs: dict[str, Job] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)  # current ones only
    nodes: dict[str, Node] = field(default_factory=dict)  # until gone
    intents: dict[str, Intent] = field(default_factory=dict)  # until done or refused
    pools: dict[str, PoolMemory] = field(default_factory=dict)
    speeds: dict[str, Measured] = field(default_factory=dict)  # by model
    budgets: dict[str, Budget] = field(default_factory=dict)
    alerts: dict[str, Alert] = field(default_factory=dict)  # until sent
    # derived from the rows
    keys: dict[str, str] = field(default_factory=dict)  # idempotency key -> job id
    queue: dict[Kind, list[QueueKey]] = field(default_factory=dict)  # class -> queued jobs in order
    active: set[str] = field(default_factory=set)  # jobs that hold or await nodes
    moving: set[str] = field(default_factory=set)  # of those: what the planner is to find other nodes for
    limited: set[str] = field(default_factory=set)  # of those: what has a limit of its own in time or money
    ended: dict[str, None] = field(default_factory=dict)  # jobs that are over, in order of their end
    # not durable: counters read at start, and what is learned again after a restart
    jobs_made: int = 0
    launches_made: int = 0
    era: int = 1  # rises after a restore from backup, so that tokens and generations cannot come back
    cluster: str = ""
    hold_until: Instant = Instant(0)  # wall: after a restore, until every lease of the lost time has ended
    proofs_from: Instant = Instant(0)  # wall: after a jump of the clock, no lease counts as over before
    scale: float = 1.0  # market ms per wall ms
    offers: dict[str, Offer] = field(default_factory=dict)
    columns: object = None  # fleetplan.columns.Columns of them, once a pass over a large market has made them
    quotas: dict[str, tuple[Quota, ...]] = field(default_factory=dict)  # provider -> what it lets our account run
    progress: dict[str, Progress] = field(default_factory=dict)
    sooner: dict[str, Instant] = field(default_factory=dict)  # node -> wall: its lease, on a clock that was set back
    heard: dict[str, Instant] = field(default_factory=dict)  # node -> wall
    absent: dict[str, int] = field(default_factory=dict)  # node -> lists in a row without it
    usual: dict[str, Usual] = field(default_factory=dict)  # pool -> the price that it usually has
    shares: dict[str, Instant] = field(default_factory=dict)  # job -> market: its share of spot is looked at then
    reviewed: dict[str, Instant] = field(default_factory=dict)  # elastic job -> market: its size stands until then
    started: dict[str, int] = field(default_factory=dict)  # node -> generation whose ranks run there
    intervals: dict[str, Millis] = field(default_factory=dict)  # running job -> checkpoint interval that it was told
    asked: dict[str, Instant] = field(default_factory=dict)  # node or foreign ref -> wall of the last terminate call
    orphans: dict[str, Orphan] = field(default_factory=dict)  # "provider:ref" of those that were seen alive
    outlived: dict[str, Orphan] = field(default_factory=dict)  # and of nodes whose lease ended unconfirmed
    waiting: dict[Kind, list[QueueKey]] = field(default_factory=dict)  # of `queue`: what the planner is to look at
    blocked: dict[Kind, str] = field(default_factory=dict)  # class -> why nothing fitted when it was judged last
    delayed: dict[str, Instant] = field(default_factory=dict)  # queued jobs passed over until this wall instant
    vetted: dict[Kind, bool] = field(default_factory=dict)  # classes that some offer could run
    streaks: dict[str, Streak] = field(default_factory=dict)  # spot pool -> since when it has been up or down
    revisits: dict[str, Instant] = field(default_factory=dict)  # job -> market: its deadline policy is asked again then
    due: dict[str, Instant] = field(default_factory=dict)  # jobs whose revisit time has come, oldest first
    outlooks: dict[str, Any] = field(default_factory=dict)  # class of jobs -> timely.foresight.Foreseen
    foreseeing: dict[str, Instant] = field(default_factory=dict)  # class -> wall: it is not asked for again before
    unforeseen: dict[str, bool] = field(default_factory=dict)  # classes of which no outlook could be made, last time
    blind: dict[str, str] = field(default_factory=dict)  # job -> class: decided without its outlook
    promised: dict[str, tuple[str, Instant]] = field(default_factory=dict)  # node -> job it is freed for, until
    news: dict[str, int] = field(default_factory=dict)  # pool -> number of its last news: it came up, or fell in price
    newest: int = 0  # number of the last news of any pool
    waits: dict[str, Waits] = field(default_factory=dict)  # jobs whose deadline policy lets them wait
    said: dict[str, Instant] = field(default_factory=dict)  # job -> market: when it told last why it waits
    sunk: dict[str, Instant] = field(default_factory=dict)  # hold -> market: up to where its cost is booked
    cooling: dict[str, Instant] = field(default_factory=dict)  # pool -> market end of its cool-down, to wake the queue
    posed: tuple[str, ...] = ()  # puzzles that a worker was given, the newest last
    proposals: dict[str, Any] = field(default_factory=dict)  # puzzle -> the worker's choice, the newest alone
    pondered: dict[str, Instant] = field(default_factory=dict)  # job -> wall: until then a better plan is waited for
    dirty: bool = False  # a pass of the planner is due

    def fold(self, event: Event) -> None:
        """Replay one event."""
        for change in event.changes:
            rows = self.table(change.table)
            if rows is None:
                continue  # append-only tables have no working set
            old = rows.get(change.key)
            if change.new:
                row = ROWS[change.table](**change.fields)
            elif old is not None:
                row = replace(old, **change.fields)
            else:
                continue  # it left the working set: its story goes on in the store alone
            self.put(change.table, change.key, row)

    def put(self, table: str, key: str, row: Any | None) -> None:
        """Set or (None) remove one row, and what is derived from it."""
        rows = self.table(table)
        assert rows is not None
        old = rows.get(key)
        if row is None or _finished(row):
            rows.pop(key, None)
        else:
            rows[key] = row
        if table == "job":
            self._index(old, row)
        elif table == "node" and key not in rows:
            self._forget(key)

    def table(self, name: str) -> dict[str, Any] | None:
        held = _HELD.get(name)
        return None if held is None else getattr(self, held)

    def attempt(self, job: Job) -> Attempt | None:
        return self.attempts.get(f"{job.id}/{job.generation}")

    def block(self, kind: Kind, why: str) -> None:
        """Nothing fits this class: it waits until the world changes."""
        self.blocked[kind] = why
        self.waiting.pop(kind, None)

    def unblock(self, kind: Kind) -> None:
        """The class is to be looked at, and is told anew should nothing fit again."""
        self.blocked.pop(kind, None)
        if kind in self.queue:
            self.waiting[kind] = self.queue[kind]

    def look_at(self, name: str) -> None:
        """This job's class is to be looked at again."""
        job = self.jobs.get(name)
        if job is not None and job.state is JobState.QUEUED:
            kind = queue_class(job)
            self.waiting[kind] = self.queue[kind]
        self.dirty = True

    def wake(self) -> None:
        """The world changed: what was blocked may fit now."""
        self.waiting = dict(self.queue)
        self.dirty = True

    def of_nodes(self) -> tuple[dict[str, Any], ...]:
        """What is known of nodes and forgotten with them."""
        return self.heard, self.absent, self.asked, self.started, self.promised, self.sooner

    def forget_ended(self) -> None:
        """Keep the newest of the jobs that are over; the store has all of them."""
        while len(self.ended) > ENDED_KEPT:
            name = next(iter(self.ended))
            del self.ended[name]
            del self.keys[self.jobs.pop(name).key]
            self.progress.pop(name, None)

    def _index(self, old: Job | None, new: Job | None) -> None:
        waited = old is not None and old.state is JobState.QUEUED
        waits = new is not None and new.state is JobState.QUEUED
        if old is not None and waited and (new is None or not waits or new.spec is not old.spec):
            self._dequeue(old)  # it waits no more, or perhaps in another class
            waited = False
        if new is None:
            assert old is not None
            self.keys.pop(old.key, None)
            for names in (self.active, self.moving, self.limited):
                names.discard(old.id)
            self.ended.pop(old.id, None)
            return
        if waits and not waited:
            self._enqueue(new)
        active = new.state in ACTIVE
        _keep(self.active, new.id, active)
        _keep(self.moving, new.id, wants_nodes(new))
        bound = (new.spec.duration_max, new.spec.cost_max) != (None, None) or new.spec.need.spot_share < 1.0
        _keep(self.limited, new.id, active and bound)
        if live(new):
            self.ended.pop(new.id, None)
        else:
            self.ended[new.id] = None
        if old is None:
            self.keys[new.key] = new.id

    def _enqueue(self, job: Job) -> None:
        kind = queue_class(job)
        order = self.queue.get(kind)
        if order is None:
            order = self.queue[kind] = []
        insort(order, queue_key(job))
        if kind not in self.blocked:
            self.waiting[kind] = order

    def _dequeue(self, job: Job) -> None:
        kind = queue_class(job)
        order, key = self.queue[kind], queue_key(job)
        at = bisect_left(order, key)
        if at < len(order) and order[at] == key:
            del order[at]
        if not order:
            del self.queue[kind]
            self.waiting.pop(kind, None)
            self.blocked.pop(kind, None)

    def _forget(self, node: str) -> None:
        for known in self.of_nodes():
            known.pop(node, None)


def _keep(names: set[str], name: str, yes: bool) -> None:
    if yes:
        names.add(name)
    else:
        names.discard(name)


ENDED_KEPT: Final = 1_000  # ended jobs in memory: what `ps` and the TUI show without asking the disk, about 3 MiB
ACTIVE: Final = frozenset({JobState.STARTING, JobState.RUNNING, JobState.DRAINING})


def queue_class(job: Job) -> Kind:
    spec = job.spec
    own = spec.deadline is not None or spec.cost_max is not None or spec.need.spot_share < 1.0
    return Kind(spec.need, spec.budget, spec.user, spec.drain, job.id if own else "")


def wants_nodes(job: Job) -> bool:
    """Whether a job that holds nodes is to be given others, and has none yet."""
    if job.next_nodes:
        return False
    if job.state is JobState.DRAINING:
        return job.after in (After.NOTHING, After.MOVE)
    return job.state is JobState.RUNNING and job.after is After.MOVE


def queue_key(job: Job) -> QueueKey:
    """Priority, then deadline, then age; the id breaks ties."""
    return -job.spec.priority, job.spec.deadline or _NEVER, job.submitted.wall, job.id


_NEVER: Final = 1 << 62


def _finished(row: object) -> bool:
    """Whether a row leaves the working set (it stays in the store)."""
    match row:
        case Attempt(ended=ended):
            return ended is not None
        case Node(state=state):
            return state is NodeState.GONE
        case Intent(state=state):
            return state in (IntentState.DONE, IntentState.REFUSED)
        case Alert(sent=sent):
            return sent
        case _:
            return False


def live(job: Job) -> bool:
    return job.state not in TERMINAL
