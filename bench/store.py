"""Durable commits per second with 1 and 64 committers, on this disk and on a slow one, and how fast the store opens.

    .venv/bin/python bench/store.py [--seconds 2] [--at DIR]

Beside each figure stand this machine's own: a calibration loop, the rate of plain fdatasync, and one-row commits
through the bare driver, all of the same run. Compare the ratios; the machine is shared.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dsched.scheduler.core.event import Change, Event
from dsched.scheduler.core.job import Spec
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import Instant, Moment
from dsched.scheduler.store.database import DATABASE, driver, hold, linked, open_writer
from dsched.scheduler.store.writer import Store

NOW = Moment(Instant(1), Instant(1))
SLOW_S = 0.004  # one sync of a network disk, or of this one while both cores are busy
LOOP = 1_000_000


def submission(number: int) -> Event:
    spec = Spec(name="bench", run="python train.py --steps 1000", user="ada", env={"A": "b"})
    row = {"id": f"j{number}", "key": f"k{number}", "spec": spec, "state": JobState.QUEUED, "submitted": NOW}
    change = Change("job", f"j{number}", row, new=True)
    return Event(kind="job.submitted", at=NOW, job=f"j{number}", why="submitted by ada", changes=(change,))


class Disk:
    """The connection with every sync counted and, where wanted, slowed. In WAL mode a commit is one sync."""

    def __init__(self, connection: Any, delay: float) -> None:
        self._connection, self._delay = connection, delay
        self.syncs = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *values: Any) -> Any:
        done = self._connection.execute(sql, *values)
        if sql == "COMMIT":
            self.syncs += 1
            if self._delay:
                time.sleep(self._delay)
        return done


def calibrate() -> float:
    start = time.perf_counter()
    sum(number for number in range(LOOP))
    return time.perf_counter() - start


def rate(seconds: float, once: Callable[[int], object]) -> float:
    start = time.perf_counter()
    done = 0
    while time.perf_counter() - start < seconds:
        once(done)
        done += 1
    return done / (time.perf_counter() - start)


def plain_syncs(folder: Path, seconds: float) -> float:
    descriptor = os.open(folder / "plain", os.O_RDWR | os.O_CREAT)
    page = os.urandom(4096)

    def once(number: int) -> None:
        os.pwrite(descriptor, page, number % 1024 * 4096)
        os.fdatasync(descriptor)

    try:
        return rate(seconds, once)
    finally:
        os.close(descriptor)


def bare_commits(folder: Path, seconds: float) -> float:
    connection = driver.connect(str(folder / "bare"), isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")
    body = "x" * 800
    found = rate(seconds, lambda number: connection.execute("INSERT INTO t (body) VALUES (?)", (body,)))
    connection.close()
    return found


async def load(store: Store, committers: int, seconds: float) -> list[float]:
    """The time each commit took."""
    took: list[float] = []
    end = time.perf_counter() + seconds
    number = store.seq

    async def commit() -> None:
        nonlocal number
        while (start := time.perf_counter()) < end:
            number += 1
            await store.commit([submission(number)])
            took.append(time.perf_counter() - start)

    await asyncio.gather(*(commit() for _ in range(committers)))
    return took


def commits(folder: Path, committers: int, seconds: float, delay: float) -> tuple[float, float, float, float]:
    """Commits per second, p50 and p99 in ms, commits per sync."""
    directory = folder / f"{committers}-{delay}"
    directory.mkdir()
    disk = Disk(open_writer(directory / DATABASE), delay)
    store = Store(directory / DATABASE, disk, hold(directory), lambda failure: None)  # type: ignore[arg-type]
    start = time.perf_counter()
    took = sorted(asyncio.run(load(store, committers, seconds)))
    elapsed = time.perf_counter() - start
    store.close()
    return (
        len(took) / elapsed,
        statistics.median(took) * 1e3,
        took[int(len(took) * 0.99)] * 1e3,
        len(took) / max(1, disk.syncs),
    )


def opening(folder: Path) -> list[tuple[str, float]]:
    """Seconds to open: an empty directory, one with 10,000 queued jobs, and to load those."""
    directory = folder / "opening"
    start = time.perf_counter()
    store = Store.open(directory)
    figures = [("open, empty directory", time.perf_counter() - start)]
    for first in range(0, 10_000, 500):
        store.commit_sync([submission(number) for number in range(first, first + 500)])
    store.close()
    start = time.perf_counter()
    store = Store.open(directory)
    figures.append(("open, 10,000 jobs", time.perf_counter() - start))
    start = time.perf_counter()
    store.load()
    figures.append(("load, 10,000 jobs", time.perf_counter() - start))
    store.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="per figure")
    parser.add_argument("--at", type=Path, default=None, help="where to write (default: the temporary directory)")
    wanted = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dsched-bench-", dir=wanted.at))
    try:
        report(folder, wanted.seconds)
    finally:
        shutil.rmtree(folder)


def report(folder: Path, seconds: float) -> None:
    before = calibrate()
    syncs, bare = plain_syncs(folder, seconds / 2), bare_commits(folder, seconds / 2)
    print(f"SQLite {linked().version} ({linked().module}, safe: {linked().safe})")
    print(f"fdatasync of 4 KiB  {syncs:10,.0f}/s")
    print(f"bare SQLite commit  {bare:10,.0f}/s  {bare / syncs:5.2f} x fdatasync\n")
    print("committers  sync       commits/s   p50 ms   p99 ms  commits/sync  x fdatasync  x bare")
    for delay in (0.0, SLOW_S):
        for committers in (1, 64):
            found, p50, p99, shared = commits(folder, committers, seconds, delay)
            name = f"+{delay * 1e3:.0f} ms" if delay else "as is"
            print(
                f"{committers:10}  {name:9} {found:10,.0f} {p50:8.2f} {p99:8.2f} {shared:13.1f} "
                f"{found / syncs:12.2f} {found / bare:7.2f}"
            )
    print()
    for name, took in opening(folder):
        print(f"{name:22} {took * 1e3:8.1f} ms")
    print(f"\ncalibration loop       {before * 1e3:8.1f} ms before, {calibrate() * 1e3:.1f} ms after")


if __name__ == "__main__":
    main()
