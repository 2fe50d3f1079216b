"""The demo's play: a daemon and an embedded cloud in their own folder, one job, and a market that turns against it.

Everything that happens to the job is real: processes, metadata notices, SIGKILL. Only the market is
made up, and the three blows (a price move, a notice, a kill) are dealt when the job is far enough to
lose something.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dsched.providers.local.provider import LocalProvider
from dsched.scheduler.api.client import Client, ClientError
from dsched.scheduler.wire.api import Attempt, Bill, Event, Health, Job

READY_SECONDS: Final = 20.0  # a cold start on a busy machine; usually one
LOOK_SECONDS: Final = 0.05  # the demo watches as a person would; the product itself does not poll
ENDED: Final = ("succeeded", "failed", "cancelled")

Tell = Callable[[str], None]


class DemoError(Exception):
    """The demo cannot go on; says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    folder: Path
    steps: int = 240
    seed: int = 1
    scale: float = 600.0  # market seconds per wall second: a minute of demo is ten hours of market
    notice_scale: float = 10.0  # 120 s of notice become 12 s, 30 s become 3 s: time to save on a busy machine
    limit_seconds: float = 120.0


@dataclass(slots=True)
class Record:
    """All that was seen, for the proof and the summary."""

    job: Job
    attempts: list[Attempt]
    events: list[Event]
    bill: Bill
    health: Health
    seconds: float  # from the first process started to the job's end
    blows: dict[str, float] = field(default_factory=dict)  # what was dealt, at how many seconds
    left_over: list[int] = field(default_factory=list)  # pids of node processes that outlived the end
    checkpoints: str = ""  # uri of the job's checkpoints
    straight: str = ""  # uri of the uninterrupted run's


def play(settings: Settings, tell: Tell) -> Record:
    """Run it all. Raises DemoError; leaves no process behind."""
    began = time.monotonic()
    state = settings.folder / "state"
    straight = settings.folder / "straight"
    with daemon_process(settings, state) as daemon, straight_run(settings, straight):
        client = connect(state, daemon)
        cloud = LocalProvider(state / "cloud" / "cloud.sock")
        try:
            name = _submit(client, settings)
            tell(f"submitted {name}: {settings.steps} steps of a small decoder")
            record = _watch(client, cloud, name, settings, tell, began)
        finally:  # it outlives the daemon on purpose
            asyncio.run(cloud.shutdown())
        record.straight = straight.as_uri()
        record.checkpoints = (state / "checkpoints" / name).as_uri()
    record.left_over = node_processes(state)
    return record


# -- processes ------------------------------------------------------------------------------------------------------


@contextmanager
def daemon_process(settings: Settings, state: Path) -> Iterator[subprocess.Popen[bytes]]:
    state.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "dsched.scheduler.daemon", "--state", str(state)]
    command += ["--seed", str(settings.seed), "--scale", str(settings.scale)]
    command += ["--notice-scale", str(settings.notice_scale), "--observe-seconds", "1", "--prices-seconds", "5"]
    with (settings.folder / "daemon.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            end(process)


@contextmanager
def straight_run(settings: Settings, folder: Path) -> Iterator[None]:
    """The same training without a scheduler, on the other core: what the losses are compared with."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"DSCHED_CHECKPOINT": folder.as_uri()}
    with (settings.folder / "straight.log").open("wb") as log:
        process = subprocess.Popen(
            train(settings), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        try:
            yield
            process.wait(settings.limit_seconds)
        except subprocess.TimeoutExpired:
            raise DemoError(f"the uninterrupted run did not end; see {log.name}") from None
        finally:
            end(process)


def train(settings: Settings) -> list[str]:
    steps = ["--steps", str(settings.steps), "--seed", str(settings.seed)]
    return [sys.executable, "-m", "dsched.jobs.train", *steps, "--shards", "2", "--rows", "2"]


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def connect(state: Path, daemon: subprocess.Popen[bytes], seconds: float = READY_SECONDS) -> Client:
    client = Client(str(state / "api.sock"))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if daemon.poll() is not None:
            raise DemoError(f"the daemon ended with {daemon.returncode}; see {state.parent / 'daemon.log'}")
        try:
            if client.health()["ready"]:
                return client
        except ClientError:
            pass
        time.sleep(LOOK_SECONDS)
    raise DemoError(f"the daemon was not ready in {seconds:.0f} s; see {state.parent / 'daemon.log'}")


def node_processes(state: Path) -> list[int]:
    """Processes of this demo's nodes that still live."""
    mark = f"DSCHED_NODE_DIR={state}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended while we looked, or is not ours
    return found


# -- the job --------------------------------------------------------------------------------------------------------


def _submit(client: Client, settings: Settings) -> str:
    spec = {
        "name": "demo",
        "run": shlex.join(train(settings)),
        "gpus": {"type": ["H100", "A100"], "count": 8, "nodes": 1},
        "capacity": ["spot", "on-demand"],
        "checkpoint": {"every": "2s"},
        "duration": "8h",
    }
    job = client.submit({"spec": spec, "key": f"demo-{os.getpid()}"})
    return job["id"]


def _watch(client: Client, cloud: LocalProvider, name: str, settings: Settings, tell: Tell, began: float) -> Record:
    """Follow the job to its end, and let the market strike at a third and at two thirds of the way."""
    blows = Blows(settings.steps)
    for job in follow(client, name, tell, began, settings.limit_seconds):
        for what in blows.due(job):
            asyncio.run(_strike(cloud, client, job, what, tell))
            blows.dealt[what] = time.monotonic() - began
    return Record(
        job=client.job(name),
        attempts=client.attempts(name),
        events=all_events(client),
        bill=client.bill(name),
        health=client.health(),
        seconds=time.monotonic() - began,
        blows=blows.dealt,
    )


def follow(client: Client, name: str, tell: Tell, began: float, limit_seconds: float) -> Iterator[Job]:
    """The job at each look until it has ended, the ended one last; what its events say is told on the way.

    `began` is an instant of time.monotonic. Raises DemoError when the job is not over `limit_seconds` later.
    """
    seen = 0
    while True:
        for event in client.events(after=seen, limit=500):
            seen = event["seq"]
            if event["why"] and event["kind"] in TOLD:
                tell(event["why"])
        job = client.job(name)
        yield job
        if job["state"] in ENDED:
            return
        if time.monotonic() - began > limit_seconds:
            raise DemoError(f"{name} is still {job['state']} after {limit_seconds:.0f} s: {job['reason']}")
        time.sleep(LOOK_SECONDS)


TOLD: Final = frozenset(
    [
        "job.placed",
        "job.running",
        "job.restarting",
        "job.requeued",
        "job.ended",
        "node.noticed",
        "node.repriced",
        "node.gone",
        "checkpoint.fallback",
    ]
)


def all_events(client: Client) -> list[Event]:
    events: list[Event] = []
    while page := client.events(after=events[-1]["seq"] if events else 0, limit=1000):
        events += page
    return events


@dataclass(slots=True)
class Blows:
    """What the market does to the job, and when it is far enough on its way."""

    steps: int
    dealt: dict[str, float] = field(default_factory=dict)

    def due(self, job: Job) -> list[str]:
        if job["state"] != "running":
            return []
        share = job["step"] / self.steps
        order = {"price": (0.15, 1), "notice": (0.3, 1), "kill": (0.65, 2)}
        return [
            what
            for what, (at, generation) in order.items()
            if what not in self.dealt and share >= at and job["generation"] >= generation
        ]


async def _strike(cloud: LocalProvider, client: Client, job: Job, what: str, tell: Tell) -> None:
    if what == "price":
        tell(f"-- the market: the price of {job['where']} rises by 60 % --")
        await cloud.inject("price", pool=job["where"], factor=1.6)
        return
    node = next(n for n in client.nodes() if n["job"] == job["id"] and n["state"] == "ready")
    warned = what == "notice"
    tell(f"-- the market: {job['where']} is taken back {'with a notice' if warned else 'without any notice'} --")
    await cloud.inject("interrupt", node=node["ref"], notice=warned)
