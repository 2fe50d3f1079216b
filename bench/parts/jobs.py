"""Real jobs on the embedded cloud: how soon one runs, how soon a kill is seen and healed, what a notice saves."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.figure import Figure, share
from bench.parts.home import RUNNING, Scale, event, home, machine, pull, settled
from tests.support.house import House, wait_for

TRAIN = "{python} -m dsched.jobs.train --steps 1000000"


def to_running(folder: Path, scale: Scale) -> Iterator[Figure]:
    """Submit -> the job's own first command has run, on a node that stands idle."""
    stamp = folder / "stamp"
    with home(folder) as built:
        own = machine(folder)
        taken, acked = [], []
        for number in range(scale.rounds + 3):  # the first ones start the node and warm the caches
            stamp.unlink(missing_ok=True)
            began = time.time_ns()
            job = built.submit(f"r{number}", f"date +%s%N > {stamp}.new; mv {stamp}.new {stamp}", **RUNNING)
            acked.append((time.time_ns() - began) / 1e6)
            wait_for(stamp.exists, "the job's first command", every=0.002)
            taken.append((int(stamp.read_text()) - began) / 1e6)
            built.wait_state(job, "succeeded")
            settled(built)
        assert len(built.client.nodes()) == 1, "every job ran on the one idle node"
        taken, acked = taken[3:], acked[3:]
        name = "submit -> process running on an idle node, p50"
        note = f"acknowledged after {share(acked, 0.5):.1f}"
        limit = own.sync_ms
        yield Figure(name=name, value=share(taken, 0.5), unit="ms", goal=50, limit=limit, beside="fsync", note=note)
        yield Figure(name="  p95", value=share(taken, 0.95), unit="ms", limit=limit, beside="fsync")


def kills(folder: Path, scale: Scale) -> Iterator[Figure]:
    """SIGKILL of the node (its agent) and of a rank, of a job that needs nothing to start."""
    out = folder / "out"
    node, rank, again = [], [], []
    with home(folder) as built:
        own = machine(folder)
        job = built.submit("trivial", f"date +%s%N >> {out}; exec sleep 100000", **RUNNING)
        for number in range(max(4, scale.rounds // 2)):
            _runs(built, job, out, number + 1)
            seq, began = _kill(built, b"jobs.agent")
            node.append(event(built.client, "node.gone", after=seq)["wall"] - began)
            _stamps(out, number + 2)
            again.append(int(out.read_text().split()[number + 1]) / 1e6 - began)
        for number in range(3):
            lone = built.submit(f"lone{number}", f"echo >> {out}.{number}; exec sleep 200000", **RUNNING)
            built.wait_state(lone, "running")
            seq, began = _kill(built, b"200000")
            rank.append(event(built.client, "attempt.exits", after=seq, job=lone)["wall"] - began)
            built.client.act(lone, "cancel", {"now": True})
    yield Figure(name="SIGKILL of a node -> known, p50", value=share(node, 0.5), unit="ms", goal=100)
    yield Figure(name="  worst", value=max(node), unit="ms")
    yield Figure(name="SIGKILL of a rank -> known, p50", value=share(rank, 0.5), unit="ms", goal=100)
    note = "a new machine is bought and boots"
    yield Figure(
        name="SIGKILL of a node -> the process runs again, p50",
        value=share(again, 0.5),
        unit="ms",
        limit=own.python_ms,
        beside="python start",
        note=note,
    )


def training(folder: Path, scale: Scale) -> Iterator[Figure]:
    """The torch job: SIGKILL of its node -> first step of the next generation; notice -> checkpoint committed."""
    resumed, saved, left = [], [], []
    run = TRAIN.format(python=shlex.quote(sys.executable))
    with home(folder, "--notice-scale", "4") as built:
        own = machine(folder)
        spec = RUNNING | {"capacity": ["spot"], "checkpoint": {"every": "1s"}}
        job = built.submit("train", run, **spec)
        for number in range(scale.trains):
            _saves(built, job, 2 * number + 1)
            _, began = _kill(built, b"jobs.agent")
            resumed.append(_first_step(built, job, 2 * number + 2)["wall"] - began)
            _saves(built, job, 2 * number + 2)
            machines = [n for n in built.client.nodes() if n["job"] == job and n["state"] == "ready"]
            seq, began = _now(built)
            pull(built, "interrupt", node=machines[0]["ref"], notice=True)
            noticed = event(built.client, "node.noticed", after=seq)
            saved.append(event(built.client, "job.checkpointed", after=noticed["seq"], job=job)["wall"] - began)
            left.append(_first_step(built, job, 2 * number + 3)["wall"] - began)
    beside = "python start"
    name = "SIGKILL of a node -> the torch job's next first step"
    yield Figure(name=name, value=share(resumed, 0.5), unit="ms", limit=own.python_ms, beside=beside)
    name = "notice -> checkpoint committed"
    note = "polled once a second on AWS"
    yield Figure(name=name, value=share(saved, 0.5), unit="ms", limit=own.sync_ms, beside="fsync", note=note)
    name = "notice -> first step elsewhere"
    yield Figure(name=name, value=share(left, 0.5), unit="ms", limit=own.python_ms, beside=beside)


def _now(built: House) -> tuple[int, float]:
    """The last event, and the wall clock in milliseconds."""
    return built.client.health()["seq"], time.time() * 1e3


def _kill(built: House, mark: bytes) -> tuple[int, float]:
    """kill -9 of every process of the nodes with this in its command line."""
    pids = [pid for pid in built.node_processes() if mark in _command(pid)]
    assert pids, "there is something to kill"
    seq, began = _now(built)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # the first may take the others with it
            os.kill(pid, signal.SIGKILL)
    return seq, began


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _runs(built: House, job: str, out: Path, generation: int) -> None:
    _stamps(out, generation)
    wait_for(lambda: _is(built, job, "running", generation), f"generation {generation}")


def _is(built: House, job: str, state: str, generation: int) -> bool:
    found = built.client.job(job)
    return found["state"] == state and found["generation"] == generation


def _stamps(out: Path, count: int) -> None:
    wait_for(lambda: out.exists() and out.read_text().count("\n") >= count, f"start {count}")


def _first_step(built: House, job: str, generation: int) -> Any:
    """The event of the first step of a generation."""
    wait_for(lambda: _is(built, job, "running", generation), f"generation {generation}")

    def there() -> Any:
        steps = [e for e in _events(built, job) if e["kind"] == "attempt.stepping"]
        return steps[generation - 1] if len(steps) >= generation else None

    return wait_for(there, f"the first step of generation {generation}")


def _saves(built: House, job: str, generation: int) -> None:
    """Wait until this generation has stepped and committed something of its own."""
    first = _first_step(built, job, generation)
    event(built.client, "job.checkpointed", after=first["seq"], job=job)


def _events(built: House, job: str) -> list[Any]:
    found: list[Any] = []
    while page := built.client.events(after=found[-1]["seq"] if found else 0, limit=1000, job=job):
        found += page
    return found
