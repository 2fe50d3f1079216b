"""The sum of the ledger, kept up event by event: /v1/money must not read a hundred thousand entries each time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from dsched.scheduler.api.ports import Committed, Queries
from dsched.scheduler.core.event import Change
from dsched.scheduler.core.units import Charge


class _Phase(Enum):
    UNREAD = auto()  # nobody has asked; events need not be counted, the store has them
    READING = auto()
    READ = auto()


@dataclass(slots=True)
class Books:
    """Owed and baseline of everything ever booked. The first question reads the store, events add to it from then."""

    owed: int = 0
    baseline: int = 0
    _phase: _Phase = _Phase.UNREAD
    _waiting: list[Committed] = field(default_factory=list)  # heard while the store is read
    _keys: set[str] = field(default_factory=set)  # entries that were read, until events are behind them
    _upto: int = 0  # the read may hold entries up to this event
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def hear(self, batch: Sequence[Committed]) -> None:
        if self._phase is _Phase.READING:
            self._waiting += batch
        elif self._phase is _Phase.READ:
            self._count(batch)

    def forget(self) -> None:
        """Events were missed: the next question reads the store again."""
        self._phase = _Phase.UNREAD

    async def sums(self, queries: Queries) -> tuple[Charge, Charge]:
        async with self._lock:
            while self._phase is not _Phase.READ:
                await self._read(queries)
        return Charge(self.owed), Charge(self.baseline)

    async def _read(self, queries: Queries) -> None:
        self._phase = _Phase.READING
        entries, self._upto = await asyncio.to_thread(lambda: (queries.ledger(), queries.seq()))
        if self._phase is not _Phase.READING:
            return  # events were missed meanwhile
        self.owed = sum(entry.owed for entry in entries)
        self.baseline = sum(entry.baseline for entry in entries)
        self._keys = {f"{entry.node}/{entry.start}/{entry.kind}" for entry in entries}
        self._phase = _Phase.READ
        waiting, self._waiting = self._waiting, []
        self._count(waiting)

    def _count(self, batch: Sequence[Committed]) -> None:
        for seq, event in batch:
            if seq > self._upto:
                self._keys.clear()
            for change in event.changes:
                if change.table == "ledger" and change.key not in self._keys:
                    self._add(change)

    def _add(self, entry: Change) -> None:
        self.owed += int(entry.fields["owed"])
        self.baseline += int(entry.fields["baseline"])
