"""Copies of the database, and the way back from one.

A restore goes back in time: tokens and generations that were given out since the backup are unknown to it. So the era
rises above every era that may have been used (the caller adds the floor that is kept outside, in the bucket), and the
moment of the restore is remembered: the daemon starts no launch until every lease that the lost time may have granted
has run out.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Final, NamedTuple

from dsched.scheduler.core.units import Instant
from dsched.scheduler.store.check import Finding, check
from dsched.scheduler.store.database import (
    DATABASE,
    driver,
    hold,
    open_reader,
    open_writer,
    sync,
    transaction,
    write_copy,
)
from dsched.scheduler.store.errors import Damaged

RESTORED: Final = "restored"  # meta: wall milliseconds of the last restore
_BESIDE: Final = ("-wal", "-shm")  # what SQLite keeps beside the file


class Restored(NamedTuple):
    era: int
    kept: Path | None  # the database that was replaced
    findings: list[Finding]  # what was wrong with the backup and accepted by force


def backup(path: Path, target: Path) -> str:
    """A consistent, durable copy of the database, of a running daemon too. Returns its SHA-256."""
    connection = open_reader(path)
    try:
        write_copy(connection, target)
    finally:
        connection.close()
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def restore(source: Path, directory: Path, *, wall: Instant, era_floor: int = 0, force: bool = False) -> Restored:
    """Put the backup in the place of the state directory's database, in a new era. The old database is kept beside it.

    Raises Locked while a daemon runs, NewerSchema, and Damaged for what `check` finds wrong unless `force`. Until the
    last step the old database stands; a restore that was cut short is simply done again.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, incoming = directory / DATABASE, directory / f"{DATABASE}.incoming"
    with hold(directory):
        _remove(incoming)
        shutil.copyfile(source, incoming)
        incoming.chmod(0o600)
        era = max(_era(source), _era(path), era_floor) + 1
        _stamp(incoming, era, wall)
        findings = check(incoming)
        if findings and not force:
            _remove(incoming)
            raise Damaged(source, f"{findings[0].where}: {findings[0].text}")
        for suffix in _BESIDE:  # empty ones, made by the reader that checked
            incoming.with_name(incoming.name + suffix).unlink(missing_ok=True)
        kept = _set_aside(path)
        incoming.replace(path)
        sync(directory)
        return Restored(era, kept, findings)


def _stamp(path: Path, era: int, wall: Instant) -> None:
    """Open as a daemon would, which also migrates an older backup, and write down the new era."""
    connection = open_writer(path)
    with transaction(connection):
        rows = [("era", str(era)), (RESTORED, str(wall))]
        connection.executemany("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", rows)
    connection.close()  # the last connection moves the WAL into the file and removes it
    sync(path)


def _era(path: Path) -> int:
    """The era of a database, 0 where none can be read."""
    if not path.exists():
        return 0
    try:
        connection = open_reader(path)
        try:
            row = connection.execute("SELECT value FROM meta WHERE key = 'era'").fetchone()
        finally:
            connection.close()
    except driver.Error:
        return 0
    return int(row[0]) if row else 0


def _set_aside(path: Path) -> Path | None:
    """Give the database a second name, the first that is free, and its WAL too: the next file must not read it."""
    if not path.exists():
        return None
    number = 1
    while (kept := path.with_name(f"{path.name}.replaced-{number}")).exists():
        number += 1
    os.link(path, kept)
    for suffix in _BESIDE:
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.replace(kept.with_name(kept.name + suffix))
    return kept


def _remove(path: Path) -> None:
    for suffix in ("", *_BESIDE):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
