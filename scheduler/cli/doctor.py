"""`doctor`: what could be wrong on this host, and with the daemon; each finding with its fix as a command."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from typing import Final

import typer

from dsched.scheduler.api.client import ClientError, Refused
from dsched.scheduler.cli.contract import Exit
from dsched.scheduler.cli.lazy import here
from dsched.scheduler.cli.terminal import Terminal, moment
from dsched.scheduler.core.units import Instant, Moment
from dsched.scheduler.view.log import CHECKS
from dsched.scheduler.wire.address import state_dir
from dsched.scheduler.wire.api import Check

_PYTHON: Final = (3, 11)
_DISK_WARN: Final = 2 * 1024**3  # bytes: checkpoints and logs of a day
_DISK_FAIL: Final = 200 * 1024**2  # bytes: the database cannot grow


def doctor(ctx: typer.Context) -> int:
    """Check this host and the daemon; prints each fix. Exit 1 when something fails."""
    terminal = here(ctx)
    told = list(daemon(terminal))
    here_too = {check["name"] for check in told}  # what the daemon says of the same thing, it says from nearer
    found = [*(check for check in local(state_dir(os.environ)) if check["name"] not in here_too), *told]
    now = Moment(Instant(0), Instant(0))
    terminal.rows(CHECKS, found, now, name="name")
    failed = [c for c in found if c["status"] == "fail"]
    return Exit.FAILED if failed else Exit.OK


def local(state: str) -> Iterator[Check]:
    """What needs no daemon to be looked at."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= _PYTHON:
        yield _check("python", "ok", version)
    else:
        yield _check(
            "python", "fail", f"{version} is older than {'.'.join(map(str, _PYTHON))}", "uv python install 3.11"
        )
    yield _state(state)
    if os.path.isdir(state):
        yield _disk(state)


def daemon(terminal: Terminal) -> Iterator[Check]:
    """Whether it answers, and what it says of itself."""
    client = terminal.client()
    try:
        health = client.health()
        checks = client.checks()
    except ClientError as e:
        fix = "" if isinstance(e, Refused) else "dsched daemon"
        yield _check("daemon", "fail", e.problem["message"], e.problem.get("hint", "").split("     ")[0] or fix)
        return
    skew = abs(moment(health).wall / 1000 - _wall())
    yield _check("daemon", "ok", f"{health['version']}, pid {health['pid']}, at {client.path}")
    if skew > 5:
        yield _check("clock", "warn", f"{skew:.0f} s apart from the daemon's", "timedatectl set-ntp true")
    yield from checks


def _wall() -> float:
    import time

    return time.time()


def _state(state: str) -> Check:
    try:
        info = os.stat(state)
    except FileNotFoundError:
        return _check("state", "warn", f"{state} does not exist yet; the first daemon makes it", "dsched daemon")
    except OSError as e:
        return _check("state", "fail", f"{state}: {e.strerror}", f"ls -ld {state}")
    if not stat.S_ISDIR(info.st_mode):
        return _check("state", "fail", f"{state} is no directory", f"ls -l {state}")
    if info.st_mode & stat.S_IWOTH:
        return _check("state", "fail", f"{state} can be written by everybody", f"chmod o-w {state}")
    if not os.access(state, os.W_OK | os.X_OK):
        return _check("state", "warn", f"{state} belongs to uid {info.st_uid}; only its owner runs a daemon there")
    return _check("state", "ok", state)


def _disk(state: str) -> Check:
    room = os.statvfs(state)
    free = room.f_bavail * room.f_frsize
    text = f"{free / 1024**3:.1f} GiB free under {state}"
    if room.f_files and room.f_favail < 1_000:
        return _check("disk", "fail", f"no inodes left under {state}", f"df -i {state}")
    status = "fail" if free < _DISK_FAIL else "warn" if free < _DISK_WARN else "ok"
    return _check("disk", status, text, "" if status == "ok" else f"du -xsh {state}/*")


def _check(name: str, status: str, message: str, fix: str = "") -> Check:
    return Check(name=name, status=status, message=message, fix=fix)
