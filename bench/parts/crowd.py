"""Ten thousand waiting jobs while the market moves: how long anybody is kept waiting, and what commands cost."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.figure import Figure, share
from bench.parts.home import Scale, fill, home, machine, pull, since, used_s
from dsched.scheduler.api.client import Client
from tests.support.house import House

STALL_MS: Final = 100
MOVES: Final = 12  # changes of every price while somebody asks
PAUSE_S: Final = 0.005
COMMANDS: Final = 8  # runs of each command
READING: Final = ("ps", "ps -a", "ps -o json", "report", "explain j1", "events", "prices", "nodes")


def stalls(folder: Path, scale: Scale) -> Iterator[Figure]:
    for classes, words in ((1, "one class"), (scale.jobs, f"{scale.jobs:,} classes")):
        with home(folder / f"of{classes}") as built:
            assert built.process is not None
            fill(built, scale.jobs, classes=classes)
            before, began = used_s(built.process.pid), time.monotonic()
            waits = _asked_while_prices_move(built)
            busy = (used_s(built.process.pid) - before) / (time.monotonic() - began)
            name = f"GET health while all prices move, {scale.jobs:,} jobs of {words}, worst"
            note = f"p50 {share(waits, 0.5):.1f}, p99 {share(waits, 0.99):.1f}; daemon {busy:.0%} of a core"
            yield Figure(name=name, value=max(waits), unit="ms", goal=STALL_MS, note=note)


def _asked_while_prices_move(built: House) -> list[float]:
    done = threading.Event()
    waits: list[float] = []

    def ask() -> None:
        client = Client(str(built.state / "api.sock"))
        while not done.is_set():
            began = time.monotonic()
            client.health()
            waits.append(since(began))
            time.sleep(PAUSE_S)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        for move in range(MOVES):
            pull(built, "price", pool="*", factor=1.0 + 0.01 * (move % 5))
            time.sleep(0.25)  # the market tells of prices at most five times a second
    finally:
        done.set()
        asker.join()
    return waits


def commands(folder: Path, scale: Scale) -> Iterator[Figure]:
    dsched = str(Path(sys.executable).with_name("dsched"))
    with home(folder) as built:
        own = machine(folder)
        environ = os.environ | {"DSCHED_SERVER": str(built.state / "api.sock")}

        def figure(name: str, goal: float, *command: str) -> Figure:
            taken = [_run([dsched, *command], environ) for _ in range(COMMANDS)]
            note = f"best of {COMMANDS}, p50 {statistics.median(taken):.0f}"
            limit = own.python_ms
            return Figure(
                name=name, value=min(taken), unit="ms", goal=goal, limit=limit, beside="python start", note=note
            )

        yield figure("dsched --help", 150, "--help")
        fill(built, 20)
        yield figure("dsched ps, 20 jobs", 200, "ps")
        fill(built, scale.jobs - 20)
        spec = folder / "job.yaml"
        spec.write_text("name: bench\nrun: python train.py\ngpus: {type: H100, count: 8}\n")
        for command in (*READING, f"plan {spec}"):
            yield figure(f"dsched {command.replace(f'{folder}/', '')}, {scale.jobs:,} jobs", 200, *command.split())


def _run(command: list[str], environ: dict[str, str]) -> float:
    began = time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environ, check=True)
    return since(began)
