"""Run the daemon on a disk whose commits take longer.

    python bench/slowdisk.py SECONDS ... -m dsched.scheduler.daemon ...

Only the writer's COMMIT is slowed, by a sleep behind it: as long as a sync of a network disk takes, or of a local one
while both cores are busy.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from dsched.scheduler import daemon
from dsched.scheduler.store import writer


class SlowDisk:
    """The connection, with every commit slowed."""

    def __init__(self, connection: Any, delay: float) -> None:
        self._connection, self._delay = connection, delay

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *values: Any) -> Any:
        done = self._connection.execute(sql, *values)
        if sql == "COMMIT":
            time.sleep(self._delay)
        return done


def main() -> None:
    delay, opened = float(sys.argv[1]), writer.open_writer

    def open_slow(path: Path) -> Any:
        return SlowDisk(opened(path), delay)

    writer.open_writer = open_slow
    daemon.main(sys.argv[sys.argv.index("dsched.scheduler.daemon") + 1 :])


if __name__ == "__main__":
    main()
