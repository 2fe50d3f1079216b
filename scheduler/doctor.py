"""The daemon's part of `dsched doctor`: what only this host can tell, each finding with its fix as a command."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dsched.scheduler.store.database import linked
from dsched.scheduler.wire.api import Check

DISK_LEAST: Final = 1 << 30  # bytes: below that the next checkpoint of a small job may not fit


def checks(state: Path) -> list[Check]:
    return [_sqlite(), _disk(state), _rights(state)]


def providers(found: Mapping[str, Mapping[str, Any]]) -> list[Check]:
    """Whether each cloud answers. While one does not, its machines run on under their leases and nothing new starts."""
    return [_provider(name, told) for name, told in found.items()]


def _provider(name: str, told: Mapping[str, Any]) -> Check:
    label = f"cloud {name}"
    if not told["ok"]:
        return Check(name=label, status="fail", message=told["why"], fix="dsched info")
    return Check(name=label, status="ok", message=f"answers; {told['nodes']} machines are ours", fix="")


def _sqlite() -> Check:
    found = linked()
    text = f"SQLite {found.version} through {found.module}"
    if found.safe:
        return Check(name="sqlite", status="ok", message=text, fix="")
    text += ": has the WAL-reset bug; one process and one writing connection keep it harmless"
    return Check(name="sqlite", status="warn", message=text, fix="pip install 'pysqlite3>=0.6.1'")


def _disk(state: Path) -> Check:
    free = shutil.disk_usage(state).free
    text = f"{free / (1 << 30):.1f} GiB free under {state}"
    if free >= DISK_LEAST:
        return Check(name="disk", status="ok", message=text, fix="")
    return Check(name="disk", status="fail", message=text, fix=f"du -xsh {state}/* | sort -h")


def _rights(state: Path) -> Check:
    mode = state.stat().st_mode & 0o777
    text = f"{state} has mode {mode:o}"
    if mode & 0o007 == 0:
        return Check(name="state directory", status="ok", message=text, fix="")
    return Check(name="state directory", status="warn", message=text + ": others may read it", fix=f"chmod o= {state}")
