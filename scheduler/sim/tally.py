"""What a simulation came to: a row per job, the sums, and both as plain values for JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from dsched.scheduler.core.units import HOUR, Charge, text, to_micro_usd
from dsched.scheduler.sim.drive import Simulation
from dsched.scheduler.sim.story import Stay, Tale

VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One job. Instants are market milliseconds."""

    id: str
    name: str
    state: str
    reason: str
    gpus: int
    submitted: int
    started: int | None
    ended: int | None
    deadline: int | None
    spent: Charge
    on_demand: Charge  # the same hours at the on-demand price of the same shape
    interruptions: int
    moves: int
    redone: float  # steps computed twice, as a share of all its steps
    stays: tuple[Stay, ...]

    @property
    def met(self) -> bool | None:
        """None: it has no deadline, or was cancelled."""
        if self.deadline is None or self.state == "cancelled":
            return None
        return self.state == "succeeded" and self.ended is not None and self.ended <= self.deadline

    @property
    def share(self) -> float | None:
        """What it cost, of what on-demand would have."""
        return self.spent / self.on_demand if self.on_demand else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    seed: int
    policy: str
    faults: str
    market: str  # what kind of market it was, for people
    days: float  # simulated
    digest: str  # of every decision
    decisions: int  # events in the log
    steps: int  # of the virtual clock
    judged: int  # times that an invariant was looked at
    seconds: float  # of this machine's processor
    begun: int
    rows: tuple[Row, ...]
    refused: dict[str, str]  # submissions that nobody took, and why
    spent: dict[str, Charge]  # by market
    lived: dict[str, int]  # paid machine milliseconds by market
    launches: int
    interruptions: int
    crashes: int
    explained: int  # stored decisions that name every offer on sale, with its reason
    partial: int  # and those that do not

    @property
    def paid(self) -> Charge:
        """Everything on the bill, idle machines too."""
        return Charge(sum(self.spent.values()))

    @property
    def on_demand(self) -> Charge:
        return Charge(sum(row.on_demand for row in self.rows))

    @property
    def met(self) -> int:
        return sum(row.met is True for row in self.rows)

    @property
    def missed(self) -> int:
        return sum(row.met is False for row in self.rows)


def tally(run: Simulation) -> Tally:
    """Of a simulation that has run."""
    setting, story = run.setting, run.story
    return Tally(
        seed=setting.seed,
        policy=setting.policy.deadline_policy or setting.policy.name,
        faults=setting.faults.name,
        market=run.course.note,
        days=(run.agenda.now.wall - setting.start) / HOUR / 24,
        digest=run.digest.text,
        decisions=run.digest.events,
        steps=run.agenda.done,
        judged=run.judge.looked,
        seconds=run.seconds,
        begun=setting.start,
        rows=tuple(_row(name, tale, run) for name, tale in story.tales.items()),
        refused=dict(run.refused),
        spent={market: Charge(owed) for market, owed in sorted(story.spent.items())},
        lived=dict(sorted(story.lived.items())),
        launches=story.kinds["intent.done"] + story.kinds["intent.found"],
        interruptions=run.crier.taken,
        crashes=run.crashes,
        explained=run.judge.decisions - run.judge.partial,
        partial=run.judge.partial,
    )


def to_wire(tally: Tally) -> dict[str, Any]:
    """Plain values: money as decimal strings of dollars, instants in milliseconds since 1970."""
    return {
        "v": VERSION,
        "seed": tally.seed,
        "policy": tally.policy,
        "faults": tally.faults,
        "market": tally.market,
        "days": round(tally.days, 3),
        "digest": tally.digest,
        "decisions": tally.decisions,
        "judged": tally.judged,
        "cpu_seconds": round(tally.seconds, 2),
        "spent": dollars(tally.paid),
        "on_demand": dollars(tally.on_demand),
        "saved_share": 1 - tally.paid / tally.on_demand if tally.on_demand else None,
        "deadlines": {"met": tally.met, "missed": tally.missed},
        "by_market": {
            market: {"spent": dollars(owed), "machine_hours": round(tally.lived[market] / HOUR, 2)}
            for market, owed in tally.spent.items()
        },
        "launches": tally.launches,
        "interruptions": tally.interruptions,
        "crashes": tally.crashes,
        "explained": tally.explained,
        "partly_explained": tally.partial,
        "refused": tally.refused,
        "jobs": [_row_to_wire(row) for row in tally.rows],
    }


def dollars(owed: Charge) -> str:
    return text(to_micro_usd(owed))


def states(rows: Sequence[Row]) -> Counter[str]:
    return Counter(row.state for row in rows)


def _row(name: str, tale: Tale, run: Simulation) -> Row:
    told = tale.row
    spec, work = told["spec"], run.fleet.work[name]
    return Row(
        id=name,
        name=spec.name,
        state=str(told["state"]),
        reason=told["reason"],
        gpus=spec.need.gpus_min,
        submitted=told["submitted"].market,
        started=told.get("started"),
        ended=told.get("ended"),
        deadline=spec.deadline,
        spent=told.get("spent", Charge(0)),
        on_demand=told.get("baseline", Charge(0)),
        interruptions=told.get("interruptions", 0),
        moves=told.get("moves", 0),
        redone=work.redone / work.steps,
        stays=tuple(tale.stays.values()),
    )


def _row_to_wire(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "state": row.state,
        "reason": row.reason,
        "gpus": row.gpus,
        "submitted": row.submitted,
        "started": row.started,
        "ended": row.ended,
        "deadline": row.deadline,
        "met": row.met,
        "spent": dollars(row.spent),
        "on_demand": dollars(row.on_demand),
        "interruptions": row.interruptions,
        "moves": row.moves,
        "redone": round(row.redone, 4),
        "stays": [
            {
                "pool": stay.pool,
                "nodes": stay.nodes,
                "begun": stay.begun,
                "running": stay.running,
                "ended": stay.ended,
                "outcome": stay.outcome,
            }
            for stay in row.stays
        ],
    }
