"""Events for tests of the store: only the fields that matter, the rest is plausible."""

from __future__ import annotations

from typing import Any

from dsched.scheduler.core.event import Change, Event
from dsched.scheduler.core.job import Spec
from dsched.scheduler.core.snapshot import Decision, LedgerEntry
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import Charge, Instant, MicroUsdPerHour, Moment

NOW = Moment(Instant(1_000), Instant(2_000))


def event(kind: str, *changes: Change, at: Moment = NOW, job: str = "", **data: Any) -> Event:
    return Event(kind=kind, at=at, job=job, why="a test says so", changes=changes, data=data)


def job_fields(id: str, **fields: Any) -> dict[str, Any]:
    spec = Spec(name=fields.pop("name", id), run="true", user=fields.pop("user", "ada"), env={"A": "b"})
    return {"id": id, "key": f"key-{id}", "spec": spec, "state": JobState.QUEUED, "submitted": NOW, **fields}


def submitted(id: str, **fields: Any) -> Event:
    return event("job.submitted", Change("job", id, job_fields(id, **fields), new=True), job=id)


def changed(id: str, **fields: Any) -> Event:
    return event("job.changed", Change("job", id, fields), job=id)


def attempted(job: str, generation: int, **fields: Any) -> Event:
    row = {
        "job": job,
        "generation": generation,
        "pool": "local/z/s/spot",
        "nodes": (),
        "world_size": 1,
        "decided": NOW,
        **fields,
    }
    return event("attempt.decided", Change("attempt", f"{job}/{generation}", row, new=True), job=job)


def attempt_ended(job: str, generation: int) -> Event:
    return event(
        "attempt.ended", Change("attempt", f"{job}/{generation}", {"ended": NOW, "outcome": "exit 1"}), job=job
    )


def billed(job: str, node: str, start: int, *, rate: int = 1_000_000) -> Event:
    entry = LedgerEntry(
        node=node,
        job=job,
        budget="default",
        pool="local/z/s/spot",
        kind="compute",
        rate=MicroUsdPerHour(rate),
        on_demand=None,
        start=Instant(start),
        end=Instant(start + 1_000),
        source="replay",
        quoted=Instant(start),
        owed=Charge(rate * 1_000),
        baseline=Charge(0),
    )
    fields = {name: getattr(entry, name) for name in LedgerEntry.__dataclass_fields__}
    return event("money.billed", Change("ledger", f"{node}/{start}/compute", fields, new=True), job=job)


def decided(job: str, id: str, **report: Any) -> Event:
    decision = Decision(id=id, job=job, at=NOW, report=report)
    fields = {name: getattr(decision, name) for name in Decision.__dataclass_fields__}
    return event("plan.made", Change("decision", id, fields, new=True), job=job)
