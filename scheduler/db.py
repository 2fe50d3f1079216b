"""`dsched db`: check, back up and restore the database. A process of its own: the CLI itself never opens it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dsched.scheduler.config import default_state
from dsched.scheduler.core.units import Instant
from dsched.scheduler.store.backup import backup, restore
from dsched.scheduler.store.check import Finding, check
from dsched.scheduler.store.database import DATABASE
from dsched.scheduler.store.errors import StoreError
from dsched.scheduler.view.safe import show
from dsched.scheduler.view.say import WIDEST, fail, say

OK: Final = 0
FAILED: Final = 1
NOT_FOUND: Final = 5


def main(argv: Sequence[str]) -> int:
    """Run one action; its exit code."""
    given = arguments().parse_args(argv)
    state: Path = given.state or default_state()
    path = state / DATABASE
    if given.action != "restore" and not path.is_file():
        return fail("E404", f"no database at {path}", "dsched daemon     makes one", NOT_FOUND)
    try:
        if given.action == "check":
            return _checked(path)
        if given.action == "backup":
            sha256 = backup(path, given.target)
            say(show(f"{given.target}  sha256 {sha256}", WIDEST))
            return OK
        done = restore(given.source, state, wall=Instant(time.time_ns() // 1_000_000), force=given.force)
        kept = f"; the old one is kept as {done.kept}" if done.kept else ""
        say(show(f"restored {path}, era {done.era}{kept}", WIDEST))
        return OK
    except StoreError as e:
        return fail("E500", str(e), "dsched db check", FAILED)
    except OSError as e:
        return fail("E500", f"{e.filename or path}: {(e.strerror or str(e)).lower()}", "", FAILED)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dsched db", description="Check, back up or restore the database.")
    parser.add_argument("--state", type=Path, default=None, help="state directory (default: DSCHED_STATE)")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("check", help="is it what its log says? a daemon may go on writing; exit 1 when not")
    copy = actions.add_parser("backup", help="a consistent copy, of a running daemon too")
    copy.add_argument("target", type=Path, metavar="FILE")
    put = actions.add_parser("restore", help="put a backup in place; the daemon must be stopped")
    put.add_argument("source", type=Path, metavar="FILE")
    put.add_argument("--force", action="store_true", help="even when the backup has findings")
    return parser


def _checked(path: Path) -> int:
    findings: list[Finding] = check(path)
    for found in findings:
        say(show(f"{found.code:<7} {found.where:<16} {found.text}", WIDEST))
    if findings:
        return fail("E500", f"{path}: {len(findings)} findings", "dsched db restore FILE", FAILED)
    say(show(f"{path} is sound: its rows are what its log says", WIDEST))
    return OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
