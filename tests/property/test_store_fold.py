"""What is loaded from the projections is what the fold of the events gives in memory, whatever happened."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dsched.scheduler.core.event import Change, Event
from dsched.scheduler.core.market import Market, Pool
from dsched.scheduler.core.snapshot import Alert, Budget, Intent, Node, PoolMemory, State
from dsched.scheduler.core.state import IntentState, JobState, NodeState
from dsched.scheduler.core.units import Charge, Instant
from dsched.scheduler.store.check import check_open
from dsched.scheduler.store.log import Log
from dsched.scheduler.store.snapshot import load
from tests.support.events import NOW, attempt_ended, attempted, billed, changed, decided, event, submitted

SPOT = Pool("local", "r", "z", "s", Market.SPOT)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
CHARGES = st.integers(min_value=0, max_value=1 << 70).map(Charge)  # more than 64 bits: a large budget's exact spend

JOB_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "state": st.sampled_from(JobState),
        "reason": WORDS,
        "nodes": st.lists(WORDS, max_size=3).map(tuple),
        "spent": CHARGES,
        "due": st.integers(0, 1 << 50).map(Instant),
        "exit_code": st.none() | st.integers(-64, 255),
    },
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("job"), st.integers(0, 4), JOB_FIELDS),
        st.tuples(st.just("attempt"), st.integers(0, 4), st.booleans()),
        st.tuples(st.just("node"), st.integers(0, 3), st.sampled_from(NodeState)),
        st.tuples(st.just("intent"), st.integers(0, 3), st.sampled_from(IntentState)),
        st.tuples(st.just("pool"), st.integers(0, 2), WORDS),
        st.tuples(st.just("budget"), st.integers(0, 2), CHARGES),
        st.tuples(st.just("alert"), st.integers(0, 2), st.booleans()),
        st.tuples(st.just("stray"), st.integers(0, 2), WORDS),
    ),
    max_size=40,
)


class Story:
    """Turns drawn steps into events that a sound core could have written: every row is born before it changes."""

    def __init__(self) -> None:
        self.born: set[str] = set()
        self.generation: dict[str, int] = {}

    def tell(self, kind: str, number: int, what: Any) -> list[Event]:
        key = f"{kind}{number}"
        if kind == "job":
            return [changed(key, **what)] if self._known(key) else [submitted(key, name=f"n{number}", **what)]
        if kind == "attempt":
            return self._attempt(f"job{number}", ended=what)
        if kind == "stray":
            return [event("job.changed", Change("job", f"never-born-{number}", {"reason": what}))]
        return [self._row(kind, key, what)]

    def _known(self, key: str) -> bool:
        known = key in self.born
        self.born.add(key)
        return known

    def _attempt(self, job: str, *, ended: bool) -> list[Event]:
        told = []
        if job in self.generation:
            told.append(attempt_ended(job, self.generation[job]))
        self.generation[job] = self.generation.get(job, 0) + 1
        told.append(attempted(job, self.generation[job], **({"ended": NOW} if ended else {})))
        told.append(billed(job, f"n-{job}", self.generation[job] * 7))
        told.append(decided(job, f"{job}-{self.generation[job]}", lines=[{"offer": "x", "hazard": 0.25}]))
        return told

    def _row(self, kind: str, key: str, what: Any) -> Event:
        if kind == "node":
            row: Any = Node(
                id=key, token="t", index=0, pool=SPOT, gpus=1, state=what, lease_until=Instant(9), rate=1,
                rate_source="r", rate_at=Instant(1), on_demand=None, ceiling=1,
            )  # fmt: skip
            change = {"state": what}
        elif kind == "intent":
            row = Intent(
                id=key, state=what, provider="local", job="j", pool=SPOT, count=1, nodes=(),
                lease_until=Instant(9), price_max=None, made=NOW,
            )  # fmt: skip
            change = {"state": what}
        elif kind == "pool":
            row, change = PoolMemory(pool=key, why=what), {"why": what}
        elif kind == "budget":
            row, change = Budget(name=key, spent=what), {"spent": what, "fired": (50, 80)}
        else:
            row, change = Alert(id=key, made=NOW, severity="info", title="t", text="x", sent=what), {"sent": what}
        if self._known(key):
            return event("x.changed", Change(kind, key, change))
        return event("x.made", Change(kind, key, {f.name: getattr(row, f.name) for f in fields(row)}, new=True))


def story(steps: list[tuple[str, int, Any]]) -> list[Event]:
    teller = Story()
    return [told for step in steps for told in teller.tell(*step)]


def without_comebacks(events: list[Event]) -> list[Event]:
    """Leave out changes of rows that left the working set, which no state machine allows."""
    state, kept = State(), []
    gone: set[tuple[str, str]] = set()
    for each in events:
        places = [(c.table, c.key) for c in each.changes]
        if any(place in gone for place in places):
            continue
        state.fold(each)
        kept.append(each)
        for table, key in places:
            rows = state.table(table)
            if rows is not None and key not in rows and not key.startswith("never-born"):
                gone.add((table, key))
    return kept


@settings(max_examples=80, deadline=None)
@given(STEPS, st.integers(1, 7))
def test_the_loaded_state_is_the_folded_state(steps: list[tuple[str, int, Any]], batch: int) -> None:
    events = without_comebacks(story(steps))
    folded, log = State(), Log.in_memory()
    for start in range(0, len(events), batch):
        log.append(events[start : start + batch])
    for each in events:
        folded.fold(each)

    loaded = load(log.connection)
    for rows in ("jobs", "attempts", "nodes", "intents", "pools", "budgets", "alerts"):
        assert list(getattr(loaded, rows).items()) == list(getattr(folded, rows).items())
    assert (loaded.keys, loaded.queue, loaded.active) == (folded.keys, folded.queue, folded.active)
    assert log.seq == len(events)
    strays = [f for f in check_open(log.connection, Path("memory")) if "never-born" not in f.text]
    assert strays == []
    log.connection.close()
