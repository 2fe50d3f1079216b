"""The event log: gap-free, append-only, hash-chained, and the projections that it changes.

One event is one row of `event` plus the rows its changes touch, in one transaction. `Log` is the plain synchronous
form on one connection: the writer thread drives it, and so do simulator and tests, without a thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final, Self

from dsched.scheduler.core.event import TABLES, Event
from dsched.scheduler.store.codec import GENESIS, Record, RowChange, digest, encode, merge
from dsched.scheduler.store.database import connect_memory, transaction

if TYPE_CHECKING:
    from sqlite3 import Connection

_ROW_COLUMNS: Final = ("key", "body")
EVENT_COLUMNS: Final = ("seq", "wall", "market", "kind", "job", "node", "why", "body", "prev_hash", "hash")

# What is remembered by name may be stated again. Everything else is born once: a second birth of a ledger entry would
# bill twice, of an attempt would run twice, so the primary key refuses it.
_RESTATED: Final = frozenset({"pool", "speed", "budget"})

# Rows of one statement. Every statement gives the interpreter's lock away and must get it back from a busy event loop,
# which takes up to a switch interval: twenty submissions in forty statements waited longer for it than for the disk.
# Powers of two, so that few different statements are kept prepared.
_TOGETHER: Final = (32, 16, 8, 4, 2, 1)
_SELECT: Final = {table: f"SELECT body FROM {table} WHERE key = ?" for table in TABLES}  # noqa: S608
_UPDATE: Final = {table: f"UPDATE {table} SET body = ? WHERE key = ?" for table in TABLES}  # noqa: S608


class Log:
    """The log's head on one connection. Whoever holds it is the only writer."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        last = connection.execute("SELECT seq, hash FROM event ORDER BY seq DESC LIMIT 1").fetchone()
        self.seq: int = last[0] if last else 0
        self._hash: bytes = last[1] if last else GENESIS

    @classmethod
    def in_memory(cls) -> Self:
        """A log that forgets, with the tables of the real one."""
        return cls(connect_memory())

    def append(self, events: Sequence[Event]) -> int:
        """Write the events in one transaction. Returns the seq of the last one."""
        records = [encode(event) for event in events]
        with transaction(self.connection):
            self.write(records)
        return self.seq

    def write(self, records: Iterable[Record]) -> None:
        """Write within the caller's transaction. After an error the log is ahead of its file: use it no more."""
        events: list[tuple[object, ...]] = []
        births: dict[str, list[tuple[object, ...]]] = {}
        for record in records:
            seq = self.seq + 1
            after = digest(self._hash, seq, record)
            events.append((seq, *record[:7], self._hash, after))
            for change in record.rows:
                if change.new:
                    births.setdefault(change.table, []).append((change.key, change.body))
                else:
                    self._insert(change.table, _ROW_COLUMNS, births.pop(change.table, ()))
                    self._apply(change)
            self.seq, self._hash = seq, after
        for table, rows in births.items():
            self._insert(table, _ROW_COLUMNS, rows)
        self._insert("event", EVENT_COLUMNS, events)

    def _insert(self, table: str, columns: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
        done = 0
        for together in _TOGETHER:
            while len(rows) - done >= together:
                values = [value for row in rows[done : done + together] for value in row]
                self.connection.execute(_insertion(table, columns, together), values)
                done += together

    def _apply(self, change: RowChange) -> None:
        table, key, _, body = change
        found = self.connection.execute(_SELECT[table], (key,)).fetchone()
        # A change of a row that is not there does nothing, as in `State.fold`; `check` reports it.
        if found is not None:
            self.connection.execute(_UPDATE[table], (merge(found[0], body), key))


@cache
def _insertion(table: str, columns: tuple[str, ...], together: int) -> str:
    marks = ", ".join([f"({', '.join('?' * len(columns))})"] * together)
    restated = " ON CONFLICT (key) DO UPDATE SET body = excluded.body" if table in _RESTATED else ""
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {marks}{restated}"  # noqa: S608
