"""How fast a daemon is there: at first, again, and after kill -9 with ten thousand jobs; what it weighs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure
from bench.parts.home import Scale, fill, home, machine, memory_mib, since, used_s
from dsched.scheduler.api.client import ClientError
from tests.support.house import House


def empty(folder: Path, scale: Scale) -> Iterator[Figure]:
    own = machine(folder)
    first, again, answers, cpu = [], [], [], []
    for number in range(scale.starts):
        with home(folder / f"empty{number}", start=False) as built:
            first.append(_ready(built))
            cpu.append(_cpu(built))
            for _ in range(2):
                built.kill()
                again.append(_ready(built))
                answers.append(_answers(built))
            built.client.health()
            time.sleep(0.5)  # the first ticks and looks at the market belong to idling
            resident, proportional = memory_mib(built)
    yield _start("daemon start -> ready, empty, its cloud started too", first, own.python_ms, 700)
    yield Figure(name="  CPU of the daemon until then", value=min(cpu) * 1e3, unit="ms")
    yield _start("daemon start -> ready, its cloud is there", again, own.python_ms, 700)
    yield _start("kill -9 -> socket answers", answers, own.python_ms, 1_000)
    yield Figure(
        name="resident memory, idle",
        value=resident,
        unit="MiB",
        goal=110,
        limit=own.python_mib,
        beside="python",
        note=f"{proportional:.0f} MiB proportional",
    )


def many(folder: Path, scale: Scale) -> Iterator[Figure]:
    with home(folder) as built:
        own = machine(folder)
        fill(built, scale.jobs)
        resident, proportional = memory_mib(built)
        name = f"resident memory, {scale.jobs:,} jobs queued"
        note = f"{proportional:.0f} MiB proportional"
        yield Figure(name=name, value=resident, unit="MiB", goal=150, limit=own.python_mib, beside="python", note=note)
        answers, ready = [], []
        for _ in range(scale.starts):
            answers.append(_answers(built))
            built.kill()
            ready.append(_ready(built))
        yield _start(f"kill -9 -> socket answers, {scale.jobs:,} jobs", answers, own.python_ms, 1_000)
        yield _start(f"daemon start -> ready, {scale.jobs:,} jobs", ready, own.python_ms, None)
        name = f"resident memory after a restart, {scale.jobs:,} jobs"
        yield Figure(name=name, value=memory_mib(built)[0], unit="MiB", goal=150, limit=own.python_mib, beside="python")


def _start(name: str, taken: list[float], python_ms: float, goal: float | None) -> Figure:
    best = min(taken)
    note = f"best of {len(taken)}, worst {max(taken):.0f}"
    return Figure(name=name, value=best, unit="ms", goal=goal, limit=python_ms, beside="python start", note=note)


def _ready(built: House) -> float:
    began = time.monotonic()
    built.start()
    return since(began)


def _answers(built: House) -> float:
    """From SIGKILL, with the restart right behind it, to the first answer of any kind."""
    began = time.monotonic()
    built.kill()
    built.start(wait=False)
    while True:
        try:
            built.client.health()
        except ClientError:
            time.sleep(0.002)
            continue
        taken = since(began)
        built.wait_ready()
        return taken


def _cpu(built: House) -> float:
    assert built.process is not None
    return used_s(built.process.pid)
