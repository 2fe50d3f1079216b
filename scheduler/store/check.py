"""Is this database what its log says? The proof behind `dsched db check`, and behind every restore.

SQLite has no checksum per page: a flipped bit mostly passes its integrity check. The hash chain finds it in the log,
and the fold of the log, compared with every projection, finds it in the rows.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from dsched.scheduler.core.event import TABLES, Change
from dsched.scheduler.core.snapshot import ROWS
from dsched.scheduler.store.codec import GENESIS, Record, decode_event, decode_row, digest
from dsched.scheduler.store.database import driver, open_reader, revision
from dsched.scheduler.store.errors import Damaged
from dsched.scheduler.store.migrations import HEAD

if TYPE_CHECKING:
    from sqlite3 import Connection

FINDINGS_MAX: Final = 100  # one broken link early in a long log must not print a million lines


class Finding(NamedTuple):
    code: str  # "file" | "schema" | "gap" | "chain" | "event" | "row"
    where: str  # "event 17", "job j3"
    text: str  # one sentence


Rows = dict[tuple[str, str], Any]


def check(path: Path) -> list[Finding]:
    """Everything that is wrong with the database; nothing when it is sound. Reads only: a daemon may go on writing."""
    try:
        connection = open_reader(path)
    except driver.Error as error:
        return [Finding("file", path.name, f"cannot be opened: {error}")]
    try:
        return check_open(connection, path)[:FINDINGS_MAX]
    except Damaged as error:
        return [Finding("file", path.name, error.what)]
    except driver.Error as error:
        return [Finding("file", path.name, f"cannot be read: {error}")]
    finally:
        connection.close()


def check_open(connection: Connection, path: Path) -> list[Finding]:
    """The same for an open connection."""
    connection.execute("BEGIN")  # everything as of one moment, while a daemon writes on
    try:
        return _check(connection, path)
    finally:
        connection.execute("ROLLBACK")


def _check(connection: Connection, path: Path) -> list[Finding]:
    told = [text for (text,) in connection.execute(f"PRAGMA integrity_check({FINDINGS_MAX})")]
    findings = [Finding("file", path.name, text) for text in told if text != "ok"]
    found = revision(connection, path)
    if found != HEAD:
        return [*findings, Finding("schema", path.name, f"has schema {found or 'none'}, this dsched knows {HEAD}")]
    rows: Rows = {}
    findings += _check_log(connection, rows)
    findings += _check_rows(connection, rows)
    return findings


def _check_log(connection: Connection, rows: Rows) -> list[Finding]:
    """Verify the chain and fold the events into `rows`, all of them: also what left the working set."""
    findings: list[Finding] = []
    before, expected = GENESIS, 1
    events = connection.execute(
        "SELECT seq, wall, market, kind, job, node, why, body, prev_hash, hash FROM event ORDER BY seq"
    )
    for seq, *columns, prev_hash, after in events:
        where = f"event {seq}"
        record = Record._make((*columns, ()))
        if seq != expected:
            findings.append(Finding("gap", where, f"event {expected} is missing before it"))
        elif prev_hash != before:
            findings.append(Finding("chain", where, "does not follow the event before it"))
        if digest(prev_hash, seq, record) != after:
            findings.append(Finding("chain", where, "its text is not what was written"))
        findings += _fold(rows, record, where)
        before, expected = after, seq + 1
        if len(findings) >= FINDINGS_MAX:
            break
    return findings


def _fold(rows: Rows, record: Record, where: str) -> list[Finding]:
    try:
        event = decode_event(record, changes=True)
    except (msgspec.MsgspecError, KeyError) as error:
        return [Finding("event", where, f"cannot be read: {error}")]
    return [finding for change in event.changes if (finding := _fold_change(rows, change, where))]


def _fold_change(rows: Rows, change: Change, where: str) -> Finding | None:
    place = change.table, change.key
    try:
        if change.new:
            rows[place] = ROWS[change.table](**change.fields)
        elif place in rows:
            rows[place] = replace(rows[place], **change.fields)
        else:
            return Finding("event", where, f"changes {change.table} {change.key}, which does not exist")
    except TypeError as error:
        return Finding("event", where, f"{change.table} {change.key}: {error}")
    return None


def _check_rows(connection: Connection, rows: Rows) -> list[Finding]:
    """Compare every projection with the fold."""
    findings: list[Finding] = []
    for table in TABLES:
        for key, body in connection.execute(f"SELECT key, body FROM {table} ORDER BY rowid"):  # noqa: S608
            expected = rows.pop((table, key), None)
            text = _compare(table, body, expected)
            if text:
                findings.append(Finding("row", f"{table} {key}", text))
            if len(findings) >= FINDINGS_MAX:
                return findings
    findings += [Finding("row", f"{table} {key}", "is in the log and not in its table") for table, key in rows]
    return findings


def _compare(table: str, body: str, expected: Any | None) -> str:
    if expected is None:
        return "is in its table and not in the log"
    try:
        found = decode_row(table, body)
    except msgspec.MsgspecError as error:
        return f"cannot be read: {error}"
    if found == expected:
        return ""
    differ = [name for name in type(found).__dataclass_fields__ if getattr(found, name) != getattr(expected, name)]
    return f"differs from the log in {', '.join(differ)}"
