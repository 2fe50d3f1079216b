"""The event log's unit: what happened, when, why, and which fields of which rows it changed.

The state is a fold of events and nothing else: `fold` replays one event by replacing fields. So a log
can be read by people (kind, why) and replayed by machines (changes), and no second description of a
transition exists that could disagree. Progress, telemetry and quotes are no events: they live in
last-value tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dsched.scheduler.core.units import Moment

TABLES: Final = ("job", "attempt", "node", "intent", "pool", "speed", "budget", "alert", "decision", "ledger")


@dataclass(frozen=True, slots=True)
class Change:
    """New values for some fields of one row; a row that is not there yet gets all of its fields."""

    table: str  # one of TABLES
    key: str
    fields: Mapping[str, Any]  # values are those of the row's dataclass
    new: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    kind: str  # "job.submitted", "node.ready", "intent.sent", ... subject.fact
    at: Moment
    job: str = ""  # the story it belongs to, where there is one
    node: str = ""
    why: str = ""  # one sentence for people
    changes: tuple[Change, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)  # details that are no row's field
