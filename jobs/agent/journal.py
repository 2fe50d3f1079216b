"""The agent's own log: one JSON line per event on standard error, fields cut to a bound."""

from __future__ import annotations

import json
import sys

from dsched.jobs.agent.clock import wall_ms

FIELD_MAX = 2_000  # a traceback still fits; a hostile string does not flood the journal


def note(event: str, **fields: object) -> None:
    record: dict[str, object] = {"at": wall_ms(), "event": event}
    for name, value in fields.items():
        record[name] = value[-FIELD_MAX:] if isinstance(value, str) else value
    try:
        sys.stderr.write(json.dumps(record, default=str) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # nobody reads us any more; the work goes on
