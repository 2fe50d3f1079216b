"""What can go wrong with the store, each error named by what happens next and telling the remedy.

StoreError
  Locked         another process owns the state directory; nothing was touched
  NewerSchema    the database was written by a newer dsched; nothing was touched
  Damaged        the database cannot be trusted: restore a backup
  StoreFailed    writing failed: nothing more is acknowledged, the process ends and starts again
  AmbiguousName  several jobs have this name: say the id
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

_LOOK_AND_RESTORE: Final = "look with `dsched db check`, then restore with `dsched db restore`"


class StoreError(Exception):
    """Anything the store refuses or cannot do."""


class Locked(StoreError):
    """Another process owns the state directory."""

    def __init__(self, directory: Path, pid: int | None) -> None:
        self.directory, self.pid = directory, pid
        who = f"process {pid}" if pid else "another process"
        remedy = f"stop it (kill {pid})" if pid else "stop it"
        super().__init__(
            f"{who} already runs on the state directory {directory}; "
            f"{remedy}, or choose another directory with DSCHED_STATE"
        )


class NewerSchema(StoreError):
    """The database was written by a newer dsched. There is no way down but a backup."""

    def __init__(self, path: Path, found: str, known: str) -> None:
        self.path, self.found, self.known = path, found, known
        super().__init__(
            f"{path} has schema {found}, this dsched knows up to {known}; install the dsched that wrote it, "
            f"or restore a backup of schema {known} (an upgrade leaves one beside it: {path.name}.bak-REVISION)"
        )


class Damaged(StoreError):
    """The file is no sound dsched database."""

    def __init__(self, path: Path, what: str) -> None:
        self.path, self.what = path, what
        super().__init__(f"{path} is damaged: {what}; {_LOOK_AND_RESTORE}")


class StoreFailed(StoreError):
    """A write failed. What was acknowledged is safe; what was not is not known to be."""

    def __init__(self, path: Path | str, what: str) -> None:
        self.path, self.what = path, what
        super().__init__(f"cannot write {path}: {what}; {_remedy(what)}. Acknowledged changes are safe")


class AmbiguousName(StoreError):
    """Several jobs have this name."""

    def __init__(self, name: str, ids: Sequence[str]) -> None:
        self.name, self.ids = name, tuple(ids)
        super().__init__(f"{len(ids)} jobs are named {name!r}; use an id: {', '.join(ids)}")


def _remedy(what: str) -> str:
    if "full" in what or "No space" in what:
        return "free some space there and start again"
    if "ermission" in what or "read-only" in what or "readonly" in what:
        return "make it writable for this user, or choose another directory with DSCHED_STATE"
    if "malformed" in what or "not a database" in what:
        return _LOOK_AND_RESTORE
    if "constraint" in what:
        return "a rule of the tables refused it: report this as a bug"
    return "see to the disk and start again"
