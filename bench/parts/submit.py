"""Durable submissions a second through the daemon's own socket: on this disk, on a slow one, beside jobs that burn."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.figure import Figure
from bench.parts.home import ROOT, RUNNING, Scale, home, machine, submissions, used_s
from dsched.scheduler.api.client import _Connection
from tests.support.house import House, marked, wait_for

SLOW_S: Final = 0.004  # a sync on a network disk; also what one took here while both cores were busy
CLIENTS: Final = 64
RUNS: Final = 3  # of each rate; the best is told, since others may use the machine meanwhile
BURN: Final = "while :; do :; done"


def rates(folder: Path, scale: Scale) -> Iterator[Figure]:
    """Jobs that wait: the disk and the daemon are measured, not the starting of processes."""
    with home(folder) as built:
        own = machine(folder)
        for clients in (1, CLIENTS):
            before = _cpu(built)
            runs = [submissions(built, clients, scale.seconds) for _ in range(RUNS)]
            busy = (_cpu(built) - before) / scale.seconds / RUNS
            got = max(runs)
            many = clients > 1
            name = f"durable submissions, {clients} client{'s' if many else ''}"
            yield Figure(
                name=name,
                value=got.per_s,
                unit="/s",
                goal=1_000,
                at_least=True,
                limit=own.syncs_per_s,
                beside="fsyncs",
                note=f"best of {RUNS}, worst {min(runs).per_s:,.0f}; daemon {busy:.0%} of a core",
            )
            yield Figure(name="  p50", value=got.p50, unit="ms", limit=own.sync_ms, beside="fsync")
            goal = 50 if many else None
            yield Figure(name="  p99", value=got.p99, unit="ms", goal=goal, limit=own.sync_ms, beside="fsync")


def slow_disk(folder: Path, scale: Scale) -> Iterator[Figure]:
    wrapper = [sys.executable, str(ROOT / "bench/slowdisk.py"), str(SLOW_S)]
    with home(folder, start=False) as built:
        built.start(wrapper=wrapper)
        before, jobs = _commits(built), _jobs(built)
        got = max(submissions(built, CLIENTS, scale.seconds) for _ in range(RUNS))
        synced, jobs = _commits(built) - before, _jobs(built) - jobs
        name = f"durable submissions, {CLIENTS} clients, sync takes {SLOW_S * 1e3:.0f} ms more"
        yield Figure(
            name=name, value=got.per_s, unit="/s", goal=1_000, at_least=True, limit=1 / SLOW_S, beside="such syncs"
        )
        yield Figure(name="  p99", value=got.p99, unit="ms", goal=50, limit=SLOW_S * 1e3, beside="such syncs")
        yield Figure(name="  submissions per sync", value=jobs / max(1, synced), unit="", goal=10, at_least=True)


def beside_hogs(folder: Path, scale: Scale) -> Iterator[Figure]:
    """Local jobs must never starve the daemon: their ranks run SCHED_IDLE."""
    with home(folder) as built:
        jobs = [built.submit(f"hog{n}", BURN, **RUNNING) for n in range(os.cpu_count() or 2)]
        for job in jobs:
            built.wait_state(job, "running")
        ranks = wait_for(lambda: _burning(built, len(jobs)), "busy ranks")
        idle = sum(os.sched_getscheduler(pid) == os.SCHED_IDLE for pid in ranks)
        yield Figure(name="ranks under SCHED_IDLE", value=idle / len(ranks), unit="", goal=1, at_least=True)
        own = machine(folder)
        got = max(submissions(built, 1, scale.seconds) for _ in range(RUNS))
        name = f"submission while {len(jobs)} jobs burn all cores, p50"
        yield Figure(name=name, value=got.p50, unit="ms", limit=own.sync_ms, beside="fsync now")
        yield Figure(name="  p99", value=got.p99, unit="ms", goal=50, limit=own.sync_ms, beside="fsync now")


def _burning(built: House, count: int) -> list[int]:
    mark = f"DSCHED_NODE_DIR={built.state}".encode()
    ranks = [pid for pid in marked(mark) if BURN in Path(f"/proc/{pid}/cmdline").read_text(errors="replace")]
    return ranks if len(ranks) >= count else []


def _jobs(built: House) -> int:
    return sum(built.client.health()["jobs"].values())


def _cpu(built: House) -> float:
    assert built.process is not None
    return used_s(built.process.pid)


def _commits(built: House) -> float:
    connection = _Connection(str(built.state / "api.sock"), 10.0)
    connection.request("GET", "/v1/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    found = re.search(r"^dsched_store_commits ([0-9.e+]+)$", text, re.MULTILINE)
    assert found, "the daemon counts its commits"
    return float(found[1])
