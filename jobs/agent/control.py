"""The file that a running job reads: how often to save, whether to save now, and when it will be killed."""

from __future__ import annotations

import json
import os
from pathlib import Path

from dsched.jobs.agent.journal import note


class ControlFile:
    """Rewritten by rename, so that a reader sees the old or the new one, never a part."""

    def __init__(self, path: Path, interval_ms: int) -> None:
        self.path = path
        self._interval_ms = interval_ms
        self._checkpoint = 0
        self._deadline_ms: int | None = None
        self._write()

    def interval(self, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._write()

    def checkpoint_now(self) -> None:
        self._checkpoint += 1
        self._write()

    def deadline(self, wall_ms: int) -> None:
        self._deadline_ms = wall_ms
        self._write()

    def _write(self) -> None:
        told = {"interval_ms": self._interval_ms, "checkpoint": self._checkpoint, "deadline_ms": self._deadline_ms}
        fresh = self.path.with_name(self.path.name + ".new")
        try:
            fresh.write_bytes(json.dumps(told).encode())
            os.replace(fresh, self.path)
        except OSError as error:  # disk full: the SIGTERM that follows a deadline must still go out
            note("control.unwritten", path=str(self.path), error=str(error))
