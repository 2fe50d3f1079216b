"""Real processes that die, and a real disk that is full: what was acknowledged is there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsched.scheduler.store.check import check
from dsched.scheduler.store.errors import StoreFailed
from dsched.scheduler.store.writer import Store
from tests.support.events import submitted

ROOT = Path(__file__).parents[2]

# Commits from many tasks at once, each of several events; prints a commit's number once it is acknowledged.
WRITER = """
import asyncio, itertools, sys
from pathlib import Path
from dsched.scheduler.store.writer import Store
from tests.support.events import changed, submitted

store = Store.open(Path(sys.argv[1]))
first = store.seq
numbers = itertools.count()

async def submit():
    for number in numbers:
        job = f"j{first}-{number}"
        await store.commit([submitted(job, key=job), changed(job, reason="r")])
        sys.stdout.write(job + "\\n")
        sys.stdout.flush()

async def main():
    await asyncio.gather(*(submit() for _ in range(16)))

asyncio.run(main())
"""


def acknowledged_before_the_kill(directory: Path, lines: int) -> list[str]:
    """Start the writer, read this many acknowledgements, kill it, read what it had still said."""
    command = [sys.executable, "-c", WRITER, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline().strip() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        said = process.stdout.read().split("\n")
    return acknowledged + said[:-1]  # the last piece may be half a line


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for lines in (1, 7, 60, 333, 900):
        acknowledged += acknowledged_before_the_kill(tmp_path, lines)
        store = Store.open(tmp_path)
        jobs = store.load().jobs
        assert [job for job in acknowledged if job not in jobs] == []
        assert {job.reason for job in jobs.values()} == {"r"}, "half a commit was kept"
        assert store.seq == 2 * len(jobs), "the log has a gap or a stray"
        assert check(store.path) == []
        store.close()
    assert len(acknowledged) >= 1_301


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB, where we may mount one."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no mount here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def fill(store: Store, acknowledged: list[str]) -> None:
    for number in range(len(acknowledged), 5_000):
        store.commit_sync([submitted(f"j{number}", reason="x" * 2_000)])
        acknowledged.append(f"j{number}")


def test_a_full_disk_stops_the_store_and_loses_nothing_acknowledged(small_disk: Path) -> None:
    store = Store.open(small_disk)
    acknowledged: list[str] = []
    with pytest.raises(StoreFailed, match="full; free some space there and start again"):
        fill(store, acknowledged)
    with pytest.raises(StoreFailed):
        store.commit_sync([submitted("after")])
    store.close()
    assert len(acknowledged) > 20
    (small_disk / "more").write_bytes(b"")
    subprocess.run(f"cat /dev/zero > {small_disk}/more", shell=True, stderr=subprocess.DEVNULL, check=False)
    with pytest.raises(StoreFailed, match="full"):
        fill(Store.open(small_disk), acknowledged)  # a little fits into what the write-ahead log holds already
    (small_disk / "more").unlink()

    # The remedy: a bigger disk.
    bigger = small_disk.parent / "bigger"
    shutil.copytree(small_disk, bigger)
    again = Store.open(bigger)
    assert list(again.load().jobs) == acknowledged
    assert check(again.path) == []
    assert again.commit_sync([submitted("after")]) == len(acknowledged) + 1
    again.close()


LIMITED = """
import resource, sys
from pathlib import Path
from dsched.scheduler.store.errors import StoreFailed
from dsched.scheduler.store.writer import Store
from tests.support.events import submitted

store = Store.open(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    for number in range(5_000):
        store.commit_sync([submitted(f"j{number}", reason="x" * 2_000)])
except StoreFailed as failure:
    print(number, failure)
"""


def test_a_write_error_stops_the_store_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    count, message = said.split(" ", 1)
    assert "cannot write" in message
    assert "start again" in message
    store = Store.open(tmp_path)
    assert list(store.load().jobs)[: int(count)] == [f"j{number}" for number in range(int(count))]
    assert check(store.path) == []
    store.close()
