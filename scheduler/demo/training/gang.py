"""Generations of ranks on this machine, forked from a warm zygote, and what befalls them. The agent's part, in small.

As with a real agent: a rank that dies takes its generation along, the next generation starts when the last process of
the one before is reaped, and it may have another size.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from dsched.jobs.agent.children import PR_SET_CHILD_SUBREAPER, prctl
from dsched.jobs.agent.warm import Zygote
from dsched.scheduler.wire.agent import EXIT_DONE, EXIT_SAVED

MODULE: Final = "dsched.jobs.train"
WARM_S: Final = 120.0  # to import torch on a machine that is busy; usually three
LOOK_S: Final = 0.005
SILENT_S: Final = 180.0  # without a report something is wrong with the machine or with us

Kind = Literal["kill", "kill-all", "notice"]


class GangError(Exception):
    """The run cannot go on; the message says where its logs are."""


@dataclass(frozen=True, slots=True)
class Blow:
    """When a rank reports `step`: SIGKILL to one rank or all, or SIGTERM to one; then go on with `world` ranks."""

    step: int
    kind: Kind
    world: int


@dataclass(slots=True)
class Run:
    """What was seen of one run."""

    uri: str
    worlds: list[int] = field(default_factory=list)  # of each generation
    blows: list[Blow] = field(default_factory=list)  # dealt
    recovered_ms: dict[Kind, list[float]] = field(default_factory=dict)  # from the blow to the first new step's end
    saved_ms: list[float] = field(default_factory=list)  # from a notice to the end of the last rank
    stalls_ms: list[float] = field(default_factory=list)
    steps_ms: list[float] = field(default_factory=list)
    again: int = 0  # steps computed twice
    lost_by_notice: int = 0  # of those, after a notice: must be none
    seconds: float = 0.0


def chaos(seed: int, *, steps: int, blows: int, worlds: Sequence[int]) -> list[Blow]:
    """So many blows spread over the run, of all kinds, and never two generations of the same size in a row."""
    dice = random.Random(seed)  # noqa: S311 - a plan that can be repeated
    places = sorted(dice.sample(range(2, steps - 1), blows))
    kinds: list[Kind] = ["kill", "kill-all", "notice"]
    plan: list[Blow] = []
    before = 0
    for number, step in enumerate(places):
        world = dice.choice([size for size in worlds if size != before])
        plan.append(Blow(step, kinds[number % 3] if number < 3 else dice.choice(kinds), world))
        before = world
    return plan


@contextmanager
def warmed(folder: Path) -> Iterator[Zygote]:
    """A zygote for the trainer, ready. This process hears of its ranks' ends from now on."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    zygote = Zygote(sys.executable, f"{MODULE}.warm", folder, os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        if not zygote.wait(WARM_S):
            raise GangError(f"the zygote was not ready in {WARM_S:.0f} s")
        yield zygote
    finally:
        zygote.close()
        with suppress(ChildProcessError):
            os.waitpid(zygote.pid, 0)


def run(zygote: Zygote, folder: Path, arguments: Sequence[str], world: int, plan: Sequence[Blow] = ()) -> Run:
    """Run to the end, dealing the blows. Raises GangError."""
    folder.mkdir(parents=True)
    began = time.monotonic()
    seen = Run((folder / "checkpoints").as_uri())
    with _Reports(folder) as reports:
        state = _State(zygote, folder, list(arguments), reports, seen, list(plan))
        while not state.generation(world):
            world = seen.blows[-1].world if seen.blows else world
    seen.seconds = time.monotonic() - began
    return seen


@dataclass(slots=True)
class _State:
    zygote: Zygote
    folder: Path
    arguments: list[str]
    reports: _Reports
    seen: Run
    plan: list[Blow]
    number: int = 0
    step: int = 0  # the last one that anybody reported
    struck: tuple[Blow, float, int] | None = None  # the blow under way, when, and at which step

    def generation(self, world: int) -> bool:
        """One generation from start to reaped; whether the training is done."""
        self.number += 1
        self.seen.worlds.append(world)
        ranks = self._start(world)
        dealt, first = False, True
        codes: list[int] = []
        heard = time.monotonic()
        try:
            while ranks:
                for report in self.reports.take():
                    if report.get("generation") != self.number:
                        continue
                    heard = time.monotonic()
                    if report["event"] == "saved":
                        self.seen.stalls_ms.append(report["stall_ms"])
                    if report["event"] == "step":
                        self._stepped(report, first=first)
                        first = False
                        if not dealt and self.plan and self.step >= self.plan[0].step:
                            self._strike(list(ranks))
                            dealt = True
                codes += self._reap(ranks)
                if time.monotonic() - heard > SILENT_S:
                    raise GangError(f"no report for {SILENT_S:.0f} s; see {self.folder}")
        finally:
            self._kill(ranks)
        if self.struck is not None and self.struck[0].kind == "notice":
            self.seen.saved_ms.append((time.monotonic() - self.struck[1]) * 1000)
        if any(code not in (EXIT_DONE, EXIT_SAVED, -signal.SIGKILL, 76) for code in codes):
            raise GangError(f"ranks ended with {codes}; see {self.folder}")
        return all(code == EXIT_DONE for code in codes)

    def _start(self, world: int) -> dict[int, int]:
        """pid -> rank."""
        port, ranks = free_port(), {}
        for rank in range(world):
            env = os.environ | {
                "OMP_NUM_THREADS": "1",
                "DSCHED_JOB": self.folder.name,
                "DSCHED_GENERATION": str(self.number),
                "DSCHED_SOCKET": self.reports.address,
                "DSCHED_CHECKPOINT": self.seen.uri,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(world),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
            log = os.open(self.folder / f"{self.number:02d}.{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                pid, gate = self.zygote.fork(["-m", MODULE, *self.arguments], env, log)
            finally:
                os.close(log)
            ranks[pid] = rank
            os.write(gate, b"\n")
            os.close(gate)
        return ranks

    def _stepped(self, report: dict[str, Any], *, first: bool) -> None:
        step = int(report["step"])
        if first and self.struck is not None:
            blow, when, at = self.struck
            self.struck = None
            self.seen.recovered_ms.setdefault(blow.kind, []).append((time.monotonic() - when) * 1000)
            again = max(0, self.step - step + 1)
            self.seen.again += again
            if blow.kind == "notice":
                self.seen.lost_by_notice += again
            assert at
        if "step_ms" in report:
            self.seen.steps_ms.append(report["step_ms"])
        self.step = step if first else max(self.step, step)

    def _strike(self, pids: list[int]) -> None:
        blow = self.plan.pop(0)
        number = signal.SIGTERM if blow.kind == "notice" else signal.SIGKILL
        victims = pids if blow.kind == "kill-all" else [pids[blow.step % len(pids)]]
        self.struck = (blow, time.monotonic(), self.step)
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        self.seen.blows.append(blow)

    def _reap(self, ranks: dict[int, int]) -> list[int]:
        codes = []
        for pid in list(ranks):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del ranks[pid]
                codes.append(os.waitstatus_to_exitcode(status))
                if codes[-1] not in (EXIT_DONE, EXIT_SAVED):  # a gang without a member only waits for time-outs
                    return codes + self._kill(ranks)
        return codes

    def _kill(self, ranks: dict[int, int]) -> list[int]:
        codes = []
        for pid in list(ranks):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in list(ranks):
            _, status = os.waitpid(pid, 0)
            codes.append(os.waitstatus_to_exitcode(status))
            del ranks[pid]
        return codes


class _Reports:
    """The datagram socket of a run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> _Reports:
        self.address = str(self._folder / "reports")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(self.address)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def take(self) -> list[dict[str, Any]]:
        select.select([self._socket], [], [], LOOK_S)
        found = []
        with suppress(BlockingIOError):
            while True:
                found.append(json.loads(self._socket.recv(65_536)))
        return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
