"""One transaction in the making: what happened, what follows, and the way back if it cannot be finished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, TypeVar

from dsched.scheduler.core.effect import Effect
from dsched.scheduler.core.event import Change, Event
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.snapshot import Attempt, Job, Node, State
from dsched.scheduler.core.state import JOB, NODE, JobFact, NodeFact, NodeState, step
from dsched.scheduler.core.terms import Terms
from dsched.scheduler.core.units import Millis, Moment

K = TypeVar("K")
V = TypeVar("V")


class Dice(Protocol):
    """Randomness comes in from outside: random.Random(seed) does."""

    def random(self) -> float: ...


@dataclass(slots=True)
class Draft:
    """Events are folded into the state as they are written, so that what follows sees them.

    What is not durable is learned by `learn` and `set`. `undo` takes all of it back.
    """

    state: State
    now: Moment
    rng: Dice
    policy: Policy
    terms: Terms
    events: list[Event] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    _before: dict[tuple[str, str], Any] = field(default_factory=dict)
    _learned: list[tuple[dict[Any, Any], Any, Any]] = field(default_factory=list)
    _set: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._set["dirty"] = self.state.dirty

    def say(
        self,
        kind: str,
        *changes: Change,
        job: str = "",
        node: str = "",
        why: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Write one event and fold it."""
        for change in changes:
            rows = self.state.table(change.table)
            if rows is not None:
                self._before.setdefault((change.table, change.key), rows.get(change.key))
                if change.fields.get("state") is NodeState.GONE:
                    self._learned += [(known, change.key, known.get(change.key)) for known in self.state.of_nodes()]
        event = Event(kind=kind, at=self.now, job=job, node=node, why=why, changes=changes, data=data or {})
        self.state.fold(event)
        self.events.append(event)

    def do(self, *effects: Effect) -> None:
        """Ask for effects, to be carried out once the events are durable."""
        self.effects.extend(effects)

    def learn(self, known: dict[K, V], key: K, value: V | None) -> None:
        """Remember (None: forget) in one of the state's tables of what is not durable."""
        self._learned.append((known, key, known.get(key)))
        _put(known, key, value)

    def set(self, name: str, value: Any) -> None:
        """Set one of the state's own fields that are not durable."""
        self._set.setdefault(name, getattr(self.state, name))
        setattr(self.state, name, value)

    def tell(self, pool: str) -> None:
        """There is good news of this pool for those that wait."""
        self.set("newest", self.state.newest + 1)
        self.learn(self.state.news, pool, self.state.newest)

    def undo(self) -> None:
        """Take back everything that this draft did: the message could not be handled.

        One trace may stay: classes of waiting jobs are looked at once more than needed.
        """
        for (table, key), row in self._before.items():
            self.state.put(table, key, row)
        for known, key, value in reversed(self._learned):
            _put(known, key, value)
        self.state.wake()
        for name, value in self._set.items():
            setattr(self.state, name, value)
        self.events.clear()
        self.effects.clear()

    def job(
        self,
        job: Job,
        kind: str,
        fact: JobFact | None = None,
        *more: Change,
        why: str = "",
        data: Mapping[str, Any] | None = None,
        **changed: Any,
    ) -> Job:
        """Change a job's row, through the state table when a fact is given. Returns the new row."""
        if fact is not None:
            changed["state"] = step(JOB, job.state, fact, (job.reason,))
        if why:
            changed["reason"] = why
        self.say(f"job.{kind}", Change("job", job.id, changed), *more, job=job.id, why=why, data=data)
        return self.state.jobs[job.id]

    def node(
        self,
        node: Node,
        kind: str,
        fact: NodeFact | None = None,
        *,
        why: str = "",
        data: Mapping[str, Any] | None = None,
        **changed: Any,
    ) -> Node:
        """Change a node's row, through the state table when a fact is given.

        Returns the new row, or the old one when the node has left the working set.
        """
        if fact is not None:
            changed["state"] = step(NODE, node.state, fact)
        self.say(f"node.{kind}", Change("node", node.id, changed), job=node.job, node=node.id, why=why, data=data)
        return self.state.nodes.get(node.id, node)

    def attempt(self, attempt: Attempt, kind: str, *more: Change, why: str = "", **changed: Any) -> Attempt:
        key = f"{attempt.job}/{attempt.generation}"
        self.say(f"attempt.{kind}", Change("attempt", key, changed), *more, job=attempt.job, why=why)
        return self.state.attempts.get(key, attempt)

    def jitter(self, wait: Millis) -> Millis:
        """Between half and all of `wait`, so that many who failed together do not return together."""
        return Millis(int(wait * (0.5 + 0.5 * self.rng.random())))


def _put(known: dict[K, V], key: K, value: V | None) -> None:
    if value is None:
        known.pop(key, None)
    else:
        known[key] = value


def insert(table: str, key: str, row: Any) -> Change:
    """The change that brings a new row."""
    return Change(table, key, {f.name: getattr(row, f.name) for f in fields(row)}, new=True)
