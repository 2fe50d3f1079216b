"""`dsched journal`: what the daemon saw of the market, as traces. A process of its own; a daemon may go on writing."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from dsched.scheduler.config import default_state
from dsched.scheduler.core.trace import GAP, traces
from dsched.scheduler.core.units import HOUR, SECOND, Instant, Millis
from dsched.scheduler.engine.journal import FOLDER, read
from dsched.scheduler.view.say import fail

OK: Final = 0
FAILED: Final = 1
NOT_FOUND: Final = 5


def main(argv: Sequence[str]) -> int:
    """Run one action; its exit code."""
    given = arguments().parse_args(argv)
    folder = (given.state or default_state()) / FOLDER
    try:
        found = export(folder, days=given.days, gap=Millis(round(given.gap * SECOND)))
    except ValueError as e:
        return fail("E500", str(e), "dsched journal export DIR --days 7", FAILED)
    if not found:
        return fail("E404", f"no market journal at {folder}", "dsched daemon     keeps one", NOT_FOUND)
    try:
        given.target.mkdir(parents=True, exist_ok=True)
        for trace in found:
            name = str(trace["name"]).rpartition("/")[2]
            (given.target / f"{name}.json").write_text(json.dumps(trace) + "\n")
    except OSError as e:
        return fail("E500", f"{e.filename}: {(e.strerror or str(e)).lower()}", "give another DIR", FAILED)
    known = sum(ticks for trace in found for count, ticks in trace["counts_rle"] if count is not None)
    total = sum(ticks for trace in found for _, ticks in trace["counts_rle"])
    sys.stdout.write(f"{len(found)} traces in {given.target}, {known / total:.0%} of {total} ticks known\n")
    return OK


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dsched journal", description="Write the market journal as traces.")
    parser.add_argument("--state", type=Path, default=None, help="state directory (default: DSCHED_STATE)")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    out = actions.add_parser("export", help="one file per spot pool, schema dsched.trace/1")
    out.add_argument("target", type=Path, metavar="DIR")
    out.add_argument("--days", type=float, default=None, help="only the last so many days of it (market time)")
    out.add_argument("--gap", type=float, default=GAP / SECOND, help="seconds between two ticks (default 600)")
    return parser


def export(folder: Path, *, days: float | None = None, gap: Millis = GAP) -> list[dict[str, Any]]:
    """The journal's traces with their dates. Raises ValueError for numbers that make no tape."""
    if gap < SECOND or (days is not None and not days > 0):
        raise ValueError("--gap must be at least 1 (seconds) and --days above 0")
    begin = None
    if days is not None:
        last = max((sighting.at for sighting in read(folder)), default=Instant(0))
        begin = Instant(max(0, last - round(days * 24 * HOUR)) // gap * gap)
    found = traces(read(folder), gap=gap, begin=begin)
    for trace in found:
        trace["start"] = datetime.fromtimestamp(trace["start"] / SECOND, UTC).isoformat()
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
