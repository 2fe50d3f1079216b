"""The leg on the embedded cloud: a daemon, real agents, a gang that shrinks, grows and changes its zone.

Nothing here helps the job: the market takes machines with and without a notice and makes a zone dear, the daemon
decides, the agents carry it out.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dsched.providers.base import Invalid, ProviderError
from dsched.providers.local.provider import LocalProvider
from dsched.scheduler.api.client import Client
from dsched.scheduler.demo import play
from dsched.scheduler.wire.api import Attempt, Job

LIMIT_S: Final = 240.0
STEPS: Final = 180
PACE_MS: Final = 150  # a step takes at least so long: else a fast machine is done before the market has moved
SCALE: Final = 120.0  # market seconds per wall second: a gang's size is looked at again every few seconds
ZONES: Final = ("local/usw2-az2", "local/use1-az4")
# At which share of the way, and what: the zone becomes cheap and has room, machines are taken one by one, then all of
# them are, the zone is sold out, and the other one has room.
BLOWS: Final = ((0.05, "cheap"), (0.35, "notice"), (0.5, "kill"), (0.65, "sold out"))
CHEAP: Final = 0.3  # times as much as before
ROOM: Final = 8  # machines


@dataclass(slots=True)
class Leg:
    """What was seen of it."""

    uri: str
    attempts: list[Attempt]
    job: Job
    blows: list[str] = field(default_factory=list)
    left_over: list[int] = field(default_factory=list)  # pids
    seconds: float = 0.0

    @property
    def worlds(self) -> list[int]:
        return [attempt["world_size"] for attempt in self.attempts]

    @property
    def zones(self) -> set[str]:
        return {attempt["where"].split()[0] for attempt in self.attempts}


def run(folder: Path, arguments: Sequence[str], tell: play.Tell) -> Leg:
    """Raises DemoError."""
    settings = play.Settings(folder=folder, scale=SCALE, notice_scale=10.0, limit_seconds=LIMIT_S)
    state = folder / "state"
    began = time.monotonic()
    with play.daemon_process(settings, state) as process:
        client = play.connect(state, process)
        cloud = LocalProvider(state / "cloud" / "cloud.sock")
        try:
            name = _submit(client, arguments)
            leg = _watch(client, cloud, name, tell, began)
        finally:
            _end(cloud)
    leg.uri = (state / "checkpoints" / name).as_uri()
    leg.left_over = play.node_processes(state)
    leg.seconds = time.monotonic() - began
    return leg


def _end(cloud: LocalProvider) -> None:
    """It outlives the daemon on purpose. Machines that are saving take their time, so it is asked again."""
    try:
        asyncio.run(cloud.shutdown())
    except ProviderError:
        asyncio.run(cloud.shutdown())


def _submit(client: Client, arguments: Sequence[str]) -> str:
    spec = {
        "name": "elastic",
        "run": shlex.join([sys.executable, "-m", "dsched.jobs.train", *arguments, "--pace-ms", str(PACE_MS)]),
        "env": {"OMP_NUM_THREADS": "1"},
        "gpus": {"type": "H100", "count": "8..32", "nodes": 4},
        # What the sizes are reckoned with; what runs is the tiny preset. 1,024 sequences over GPUs in one dimension:
        # gangs of 1, 2 and 4 machines divide them, one of 3 does not.
        "model": {"name": "deepseek-v2-lite", "batch": "1024 sequences", "tp": 1, "pp": 1},
        "regions": list(ZONES),
        "capacity": ["spot"],
        "checkpoint": {"every": "1s"},
        "duration": "12h",
    }
    job = client.submit({"spec": spec, "key": f"demo-train-{os.getpid()}"})
    return job["id"]


def _watch(client: Client, cloud: LocalProvider, name: str, tell: play.Tell, began: float) -> Leg:
    blows, dealt = list(BLOWS), list[str]()
    for job in play.follow(client, name, tell, began, LIMIT_S):
        if blows and job["state"] == "running" and job["step"] >= blows[0][0] * STEPS:
            _, kind = blows.pop(0)
            asyncio.run(_strike(cloud, client, job, kind, tell))
            dealt.append(kind)
    return Leg("", client.attempts(name), client.job(name), dealt)


async def _strike(cloud: LocalProvider, client: Client, job: Job, kind: str, tell: play.Tell) -> None:
    where = job["where"]
    machines = [node["ref"] for node in client.nodes() if node["job"] == job["id"] and node["state"] == "ready"]
    match kind:
        case "cheap":
            tell(f"-- the market: {where} costs {CHEAP:g} times what it did, and has room --")
            await cloud.inject("price", pool=where, factor=CHEAP)
            await cloud.inject("capacity", pool=where, count=ROOM)
        case "sold out":
            tell(f"-- the market: {where} is sold out, and takes its machines back with a notice --")
            other = next(zone for zone in ZONES if not where.startswith(zone))
            await cloud.inject("capacity", pool=f"{other}/{where.split('/', 2)[2]}", count=ROOM)
            for machine in machines:
                with suppress(Invalid):  # it has gone by itself
                    await cloud.inject("interrupt", node=machine, notice=True)
            await cloud.inject("capacity", pool=where, count=0)
        case _:
            tell(f"-- the market takes one machine {'with a notice' if kind == 'notice' else 'without any'} --")
            with suppress(Invalid):
                await cloud.inject("interrupt", node=machines[0], notice=kind == "notice")
