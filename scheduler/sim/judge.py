"""The omniscient judge of a simulation: it sees the truth and the core's rows, and says what must never be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from dsched.scheduler.core.event import Event
from dsched.scheduler.core.job import Need
from dsched.scheduler.core.message import Message
from dsched.scheduler.core.snapshot import State
from dsched.scheduler.core.units import Moment

LAST: Final = 12  # events in a story: what led there, and not more than a person reads


class Violation(AssertionError):
    """An invariant is broken; the text is a short story of how."""


class Judge:
    """Told of every rank that begins or ends anywhere, and (as a tap of the mind) of every event."""

    def __init__(self, seed: int, quota: int) -> None:
        self.seed, self.quota = seed, quota
        self.looked = 0  # times that something was judged
        self.decisions, self.partial = 0, 0  # stored reports, and those that do not name every offer on sale
        self.acknowledged: set[str] = set()  # jobs that somebody was told to have
        self._alive: dict[str, Counter[int]] = {}  # job -> generation -> machines with ranks of it
        self._last: list[Event] = []
        self._state: State | None = None

    def complain(self, what: str) -> None:
        lines = [f"  {e.at.wall} {e.kind:<20} {e.job:<6} {e.node:<24} {e.why}" for e in self._last[-LAST:]]
        raise Violation("\n".join([f"seed {self.seed}: {what}", *lines]))

    # -- the truth ---------------------------------------------------------------------------------------------------

    def began(self, key: tuple[str, int], node: str) -> None:
        """Ranks of a generation live on this machine from now on."""
        job, generation = key
        alive = self._alive.setdefault(job, Counter())
        alive[generation] += 1
        self.looked += 1
        if len(alive) > 1:
            self.complain(f"{job} runs twice: generations {sorted(alive)}, the newest on {node}")

    def ended(self, key: tuple[str, int], node: str) -> None:
        job, generation = key
        alive = self._alive[job]
        alive[generation] -= 1
        if not alive[generation]:
            del alive[generation]
        if not alive:
            del self._alive[job]

    def orphans(self, alive: set[str], state: State, seen: dict[str, int], now: int, patience: int) -> None:
        """No machine lives that no row knows, for longer than the daemon needs to notice. `seen`: since when."""
        self.looked += 1
        unowned = alive - state.nodes.keys()
        for name in seen.keys() - unowned:
            del seen[name]
        for name in unowned:
            if now - seen.setdefault(name, now) > patience:
                self.complain(f"{name} lives, and no row has known it for {(now - seen[name]) / 1000:.0f} s")

    # -- what the core decides ---------------------------------------------------------------------------------------

    def told(self, state: State, message: Message, now: Moment) -> None:
        self._state = state

    def decided(self, events: Sequence[Event]) -> None:
        if not events:
            return
        self._last = [*self._last[-LAST:], *events][-LAST:]
        for event in events:
            for change in event.changes:
                if change.new and change.table in _JUDGED:
                    self.looked += 1
                    getattr(self, _JUDGED[change.table])(change.fields)

    def _attempt(self, row: Any) -> None:
        """A gang starts whole, within its elastic range."""
        state = self._state
        assert state is not None, "the mind tells of the message first"
        job = state.jobs[row["job"]]
        nodes = [state.nodes.get(name) for name in row["nodes"]]
        if any(node is None for node in nodes):
            self.complain(f"{job.id} starts on {row['nodes']}, and not all of them are there")
        gpus = sum(node.gpus for node in nodes if node is not None)
        need: Need = job.spec.need
        if not need.cpu_only and not need.gpus_min <= gpus <= need.gpus_max:
            self.complain(f"{job.id} starts on {gpus} GPUs, not {need.gpus_min} to {need.gpus_max}")

    def _intent(self, row: Any) -> None:
        state = self._state
        assert state is not None, "the mind tells of the message first"
        if len(state.nodes) > self.quota:
            self.complain(f"{len(state.nodes)} machines are held or asked for, the quota is {self.quota}")

    def _decision(self, row: Any) -> None:
        """No refusal without a reason; and offers that a report says nothing of are counted."""
        state = self._state
        assert state is not None, "the mind tells of the message first"
        report = row["report"]
        for line in report["lines"]:
            if not line["why"] and line["verdict"] != "chosen":
                self.complain(f"decision {row['id']} says of {line['offer']} not why")
        kept = report.get("kept")  # of a large market the others are counted
        standing = kept["possible"] if kept else sum(line["verdict"] != "refused" for line in report["lines"])
        self.decisions += 1
        self.partial += len(state.offers) > standing + sum(report["refused"].values())

    def lost(self, state: State, jobs_in_store: set[str]) -> None:
        """What was acknowledged is there."""
        missing = self.acknowledged - jobs_in_store
        if missing:
            self.complain(f"acknowledged and lost: {sorted(missing)[:5]}")


_JUDGED: Final = {"attempt": "_attempt", "intent": "_intent", "decision": "_decision"}
