"""Opening the database file: which SQLite, which settings, who may write, which schema.

The settings are the promise: WAL with `synchronous=FULL` means that a commit that returned survives a power cut.
SQLite up to 3.51.2 can corrupt a WAL database when two connections write or checkpoint at once
(sqlite.org/wal.html#walresetbug). pysqlite3 bundles a newer one; where it is missing the rule that only the writer's
connection writes and checkpoints keeps the bug out of reach: every other connection is `mode=ro`, and the lock keeps
a second process away.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import uuid
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from dsched.scheduler.store.errors import Damaged, Locked, NewerSchema, StoreFailed
from dsched.scheduler.store.migrations import HEAD

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from sqlite3 import Connection
    from types import TracebackType

DATABASE: Final = "state.db"
LOCK: Final = "lock"

BUSY_MS: Final = 5_000  # only a reader that opens while a backup runs ever waits
WAL_KEPT_BYTES: Final = 64 << 20  # a WAL that one long reader made grow is cut back to this

_FIXED: Final = (3, 51, 3)
_BACKPORTS: Final = ((3, 44, 6), (3, 50, 7))


def _driver() -> str:
    try:
        importlib.import_module("pysqlite3")
    except ImportError:
        return "sqlite3"
    return "pysqlite3"


if TYPE_CHECKING:
    driver = sqlite3
else:
    driver = importlib.import_module(_driver())


class Linked(NamedTuple):
    """The SQLite in use. Not `safe`: it has the WAL-reset bug, and the single-connection rule stands in its place."""

    module: str
    version: str
    safe: bool


def linked() -> Linked:
    version = driver.sqlite_version_info
    safe = version >= _FIXED or any(version[:2] == fix[:2] and version >= fix for fix in _BACKPORTS)
    return Linked(driver.__name__, driver.sqlite_version, safe)


class Hold:
    """The state directory is ours until `release` or the end of the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


def hold(directory: Path) -> Hold:
    """Take the state directory, or raise Locked. The kernel lets go when the process ends, however it ends."""
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        told = os.pread(descriptor, 32, 0)
        os.close(descriptor)
        raise Locked(directory, int(told) if told.strip().isdigit() else None) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    return Hold(descriptor)


def open_writer(path: Path) -> Connection:
    """The one connection that writes: created, migrated and checked. The caller holds the directory.

    Raises NewerSchema, Damaged where the file is none of ours or fails SQLite's quick check, StoreFailed where the disk
    does not let us.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = driver.connect(str(path), isolation_level=None, check_same_thread=False)
    try:
        _set_up(connection)
        _prepare(connection, path)
    except driver.OperationalError as error:  # the machine's fault, not the file's: disk full, read-only, I/O error
        connection.close()
        raise StoreFailed(path, str(error)) from error
    except driver.DatabaseError as error:
        connection.close()
        raise Damaged(path, str(error)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> Connection:
    """A read-only connection, for any thread but one at a time."""
    connection = driver.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
    _settle(connection)
    return connection


def connect_memory() -> Connection:
    """A fresh database that lives as long as the connection."""
    connection = driver.connect(":memory:", isolation_level=None, check_same_thread=False)
    _create(connection)
    return connection


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """All or nothing. The write lock is taken at once, so that no statement inside can meet a busy database."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk may have rolled back by itself
            connection.execute("ROLLBACK")
        raise


def write_copy(connection: Connection, target: Path) -> None:
    """A consistent, durable copy of an open database in one file. An existing target is replaced only by a whole one.

    By SQLite's backup interface: VACUUM INTO of older ones (seen with 3.40) fails on generated columns with a CHECK.
    """
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    copy = driver.connect(str(partial), isolation_level=None)
    connection.backup(copy)
    copy.execute("PRAGMA journal_mode = DELETE")
    copy.close()
    sync(partial)
    partial.replace(target)
    sync(target.parent)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _set_up(connection: Connection) -> None:
    _settle(connection)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")  # the writer does it when nobody waits
    connection.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")


def _settle(connection: Connection) -> None:
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    connection.execute("PRAGMA foreign_keys = ON")
    if driver.sqlite_version_info >= _FIXED:
        # Older ones (seen with 3.40) count json_extract, which our generated columns use, as untrusted.
        connection.execute("PRAGMA trusted_schema = OFF")


def _prepare(connection: Connection, path: Path) -> None:
    found = revision(connection, path)
    if found == "":
        _create(connection)
        return
    if found > HEAD:
        raise NewerSchema(path, found, HEAD)
    told = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if told != "ok":
        raise Damaged(path, told)
    if found < HEAD:
        # Alembic costs a fifth of a second to import: only an upgrade pays for it.
        from dsched.scheduler.store.migrations.run import upgrade

        upgrade(connection, path, found)


def revision(connection: Connection, path: Path) -> str:
    """The schema's revision, "" for an empty file."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return ""
    if "alembic_version" not in tables:
        raise Damaged(path, "it holds tables of something else")
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else "0000"


def _create(connection: Connection) -> None:
    """All tables and the cluster's identity in one transaction, so that a kill leaves either nothing or everything."""
    ddl = files("dsched.scheduler.store").joinpath("schema.sql").read_text("utf-8")
    identity = (("cluster", uuid.uuid4().hex), ("era", "1"))
    with transaction(connection):
        for statement in ddl.split(";\n"):
            connection.execute(statement)
        connection.executemany("INSERT INTO meta (key, value) VALUES (?, ?)", identity)
