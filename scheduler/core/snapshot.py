"""The state: the rows of all that is known, in memory, and what is learned beside them.

Rows (rows.py) are immutable; `State.fold` replaces them, and is the only thing that does. What is not durable
(heartbeats, progress, offers) is kept beside the rows and is learned again after a restart. Whoever works with a state
takes its rows from here, too.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field, replace
from typing import Any, Final

from dsched.scheduler.core.classes import Kind, QueueKey, queue_class, queue_key
from dsched.scheduler.core.event import Event
from dsched.scheduler.core.market import Offer
from dsched.scheduler.core.quota import Quota
from dsched.scheduler.core.rows import (
    ACTIVE,
    ROWS,
    After,
    Alert,
    Attempt,
    Budget,
    Decision,
    Intent,
    Job,
    LedgerEntry,
    Node,
    Orphan,
    PoolMemory,
    Progress,
    Streak,
    Usual,
    Waits,
    live,
    wants_nodes,
)
from dsched.scheduler.core.speed.posterior import Measured
from dsched.scheduler.core.state import IntentState, JobState, NodeState
from dsched.scheduler.core.units import Instant, Millis

__all__ = [
    "ACTIVE",
    "ROWS",
    "After",
    "Alert",
    "Attempt",
    "Budget",
    "Decision",
    "Intent",
    "Job",
    "Kind",
    "LedgerEntry",
    "Node",
    "Orphan",
    "PoolMemory",
    "Progress",
    "QueueKey",
    "State",
    "Streak",
    "Usual",
    "Waits",
    "live",
    "queue_class",
    "queue_key",
    "wants_nodes",
]

ENDED_KEPT: Final = 1_000  # ended jobs in memory: what `ps` and the TUI show without asking the disk, about 3 MiB
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
