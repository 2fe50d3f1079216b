"""The cloud's memory: JSON lines, appended before the effect and synced to disk, folded again at the next start."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class BadJournal(Exception):
    """The journal cannot be trusted: which line, and what to do."""


class Journal:
    """One append-only file. Opened by the one process that holds the folder's lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)

    def write(self, *records: Record) -> None:
        """Durable when it returns; all of `records` or, after a power cut, a prefix of them.

        Raises OSError, for a full disk: then nothing was written, and no half line spoils the next one.
        """
        left = memoryview(b"".join(_line(record) for record in records))
        size = os.fstat(self._file.fileno()).st_size
        try:
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(size)
            raise

    def rewrite(self, records: Iterable[Record]) -> None:
        """Replace everything by these, or nothing."""
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.writelines(_line(record) for record in records)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        _sync_folder(self._path.parent)
        self._file.close()
        self._file = self._path.open("ab", buffering=0)

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> list[Record]:
    """Every whole record, oldest first. A torn last line was never acknowledged and is left out. Raises BadJournal."""
    if not path.exists():
        return []
    *lines, _torn = path.read_bytes().split(b"\n")
    found = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise BadJournal(
                f"{path}, line {number}: not a record. Nodes that it names may still run; "
                f"end them, move the folder {path.parent} away and start again"
            )
        found.append(record)
    return found


def _line(record: Record) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
