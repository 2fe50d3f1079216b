"""The working set as it was durable: what the daemon boots from.

The projections hold exactly what the fold of the log would give, because both are written in one transaction. `check`
proves it where somebody doubts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dsched.scheduler.core import orphan
from dsched.scheduler.core.hold import KIND
from dsched.scheduler.core.snapshot import ENDED_KEPT, State
from dsched.scheduler.core.state import TERMINAL, IntentState, JobState, NodeState
from dsched.scheduler.core.units import Instant
from dsched.scheduler.store.codec import decode_progress, decode_row

if TYPE_CHECKING:
    from collections.abc import Iterable
    from enum import StrEnum
    from sqlite3 import Connection


def load(connection: Connection) -> State:
    """Unfinished jobs and the recently ended, what lives and what is open, the counters and the last progress."""
    state = State()
    # One transaction: all tables as of the same event.
    connection.execute("BEGIN")
    try:
        for table, rest in _WORKING_SET.items():
            _read(connection, state, table, rest)
        _read_outlived(connection, state)
        _read_counters(connection, state)
        for key, body in connection.execute("SELECT key, body FROM progress"):
            if key in state.jobs:
                state.progress[key] = decode_progress(body)
    finally:
        connection.execute("COMMIT")
    return state


def _names(states: Iterable[StrEnum]) -> str:
    return ", ".join(f"'{state}'" for state in sorted(states))


_UNFINISHED: Final = _names(set(JobState) - TERMINAL)
_RECENT: Final = (
    f"SELECT rowid FROM job WHERE state IN ({_names(TERMINAL)}) "  # noqa: S608
    f"ORDER BY ended DESC LIMIT {ENDED_KEPT}"
)
OUTLIVED_KEPT: Final = 2_000  # nodes looked at, the newest: some milliseconds of a start
_OUTLIVED: Final = (
    "SELECT body FROM node WHERE rowid > (SELECT max(rowid) FROM node) - ? "
    "AND state = ? AND json_extract(body, '$.ended_by') = 'lease' "
    "AND json_extract(body, '$.ref') <> ''"
)
_OPEN: Final = _names({IntentState.PENDING, IntentState.SENT, IntentState.AMBIGUOUS})

_WORKING_SET: Final = {
    "job": f"WHERE state IN ({_UNFINISHED}) OR rowid IN ({_RECENT})",
    "attempt": "WHERE ended IS NULL",
    "node": f"WHERE state IN ({_names(set(NodeState) - {NodeState.GONE})})",
    "intent": f"WHERE state IN ({_OPEN})",
    "pool": "",
    "speed": "",
    "budget": "",
    "alert": "WHERE sent = 0",
}


def _read(connection: Connection, state: State, table: str, rest: str) -> None:
    for key, body in connection.execute(f"SELECT key, body FROM {table} {rest} ORDER BY rowid"):  # noqa: S608
        state.put(table, key, decode_row(table, body))


def _read_outlived(connection: Connection, state: State) -> None:
    """Machines whose lease has closed their bill: one that is seen alive all the same is paid from there, not twice."""
    for (body,) in connection.execute(_OUTLIVED, (OUTLIVED_KEPT, str(NodeState.GONE))):
        node = decode_row("node", body)
        state.outlived[orphan.key_of(node.pool.provider, node.ref)] = orphan.of(node, node.ended)


def _read_counters(connection: Connection, state: State) -> None:
    meta = dict(connection.execute("SELECT key, value FROM meta WHERE key IN ('cluster', 'era')"))
    state.cluster, state.era = meta["cluster"], int(meta["era"])
    (state.jobs_made,) = connection.execute("SELECT count(*) FROM job").fetchone()
    state.sunk = _sunk(connection)
    (state.launches_made,) = connection.execute("SELECT count(*) FROM intent").fetchone()


def _sunk(connection: Connection) -> dict[str, Instant]:
    """Up to where the cost of every hold is booked; "0" is the character after "/"."""
    of_holds = "SELECT node, max(json_extract(body, '$.end')) FROM ledger WHERE node >= ? AND node < ? GROUP BY node"
    rows = connection.execute(of_holds, (f"{KIND}/", f"{KIND}0"))
    return {node.removeprefix(f"{KIND}/"): Instant(end) for node, end in rows}
