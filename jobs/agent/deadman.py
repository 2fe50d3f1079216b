"""The end of the machine itself, which its start script watches over: moved with the lease, by one small file.

DSCHED_LEASE names it; it holds the second since the epoch at which the machine is turned off, whatever its agent does.
Without the variable (a node that is a process of the embedded cloud) nobody watches, and nothing is written.
"""

from __future__ import annotations

import os

from dsched.jobs.agent.clock import to_wall
from dsched.jobs.agent.journal import note


class Deadman:
    def __init__(self, path: str) -> None:
        self._path = path

    def told(self) -> int:
        """The end that an agent before this one was granted, wall, a second early; 0: none."""
        try:
            with open(self._path, encoding="ascii") as file:
                return max(0, int(file.read(32)) - 1) * 1_000
        except (OSError, ValueError):
            return 0

    def until(self, boot: int) -> None:
        """Move the end to this instant of the boot clock. A full disk leaves the old one, which is earlier."""
        if not self._path:
            return
        fresh = f"{self._path}.new"
        try:
            with open(fresh, "w", encoding="ascii") as file:
                file.write(f"{-(-to_wall(boot) // 1_000)}\n")
            os.replace(fresh, self._path)
        except OSError as error:
            note("deadman.stuck", error=str(error))
