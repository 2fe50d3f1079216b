"""What happened to every job, heard from the events as they are written: the source of tables and pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dsched.scheduler.core.event import Event
from dsched.scheduler.core.message import Message
from dsched.scheduler.core.snapshot import State
from dsched.scheduler.core.units import Moment


@dataclass(slots=True)
class Stay:
    """One generation on its machines, market time."""

    pool: str
    nodes: int
    begun: int
    running: int | None = None
    ended: int | None = None
    outcome: str = ""


@dataclass(slots=True)
class Tale:
    """One job. `row` holds the newest value of every field of its row."""

    row: dict[str, Any]
    stays: dict[str, Stay] = field(default_factory=dict)


class Story:
    """A tap of the mind."""

    def __init__(self) -> None:
        self.tales: dict[str, Tale] = {}
        self.kinds: Counter[str] = Counter()
        self.spent: Counter[str] = Counter()  # by market: micro-dollars per hour x milliseconds
        self.lived: Counter[str] = Counter()  # by market: machine milliseconds that were paid

    @property
    def names(self) -> set[str]:
        return set(self.tales)

    def told(self, state: State, message: Message, now: Moment) -> None:
        """Only what is decided is told."""

    def decided(self, events: Sequence[Event]) -> None:
        for event in events:
            self.kinds[event.kind] += 1
            for change in event.changes:
                match change.table:
                    case "job":
                        self._job(change.key, change.fields, new=change.new)
                    case "attempt":
                        self._attempt(change.key, change.fields, new=change.new)
                    case "ledger":
                        self._paid(change.fields)
                    case _:
                        pass

    def _job(self, name: str, fields: Mapping[str, Any], *, new: bool) -> None:
        if new:
            self.tales[name] = Tale(dict(fields))
        else:
            self.tales[name].row.update(fields)

    def _attempt(self, key: str, fields: Mapping[str, Any], *, new: bool) -> None:
        stays = self.tales[key.partition("/")[0]].stays
        if new:
            stays[key] = Stay(fields["pool"], len(fields["nodes"]), fields["decided"].market)
            return
        stay = stays[key]
        if fields.get("running") is not None:
            stay.running = fields["running"].market
        if fields.get("ended") is not None:
            stay.ended, stay.outcome = fields["ended"].market, fields["outcome"]

    def _paid(self, entry: Mapping[str, Any]) -> None:
        market = entry["pool"].rpartition("/")[2]
        self.spent[market] += entry["owed"]
        sign = -1 if entry["owed"] < 0 else 1
        self.lived[market] += sign * (entry["end"] - entry["start"])
