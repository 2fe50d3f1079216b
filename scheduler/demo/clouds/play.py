"""The play: a daemon with both providers, a training job that begins on AWS, and EC2's warning when it has something to
lose.

From the launch on nothing is staged: the user-data that the daemon sent is run by a shell, which fetches the agent
from the daemon by its digest and starts it; the agent calls home by TLS, hears the warning from the metadata service,
lets the job save to S3 and leave; the daemon hears it from the queue, too, and buys at Google, where the same steps
follow and the job's checkpoint is carried to Cloud Storage.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dsched.scheduler.api.client import Client
from dsched.scheduler.demo.clouds.skies import Skies, skies
from dsched.scheduler.demo.play import (
    LOOK_SECONDS,
    Settings,
    Tell,
    all_events,
    connect,
    end,
    follow,
    node_processes,
    straight_run,
    train,
)
from dsched.scheduler.demo.proof import losses
from dsched.scheduler.wire.api import Attempt, Bill, Event, Job

PACE_MS: Final = 100  # a step takes at least so long: else a fast machine is done before the warning is dealt
LOSE_AT: Final = 0.4  # of the way: far enough to have something to lose
READY_SECONDS: Final = 60.0  # both cloud libraries are loaded first; a few seconds on an idle machine
LEFT_SECONDS: Final = 15.0  # from the job's end until its last machine has gone, at the longest
_SETTINGS: Final = """\
local = false
observe_seconds = 0.5
idle_seconds = 1.0
prices_seconds = 10.0
"""


@dataclass(slots=True)
class Record:
    """All that was seen, for the proof and the summary."""

    job: Job
    attempts: list[Attempt]
    events: list[Event]
    bill: Bill
    seconds: float  # from the first process started to the job's end
    warned: Mapping[str, Any]  # the machine, and when
    seen: Mapping[str, Any]  # by the clouds; see tests/support/skies.py
    told: Mapping[str, Any]  # where the clouds were
    user_data: list[int] = field(default_factory=list)  # bytes of every script that was run
    tls: list[str] = field(default_factory=list)  # where agents were welcomed
    hints: list[str] = field(default_factory=list)  # machines whose warning the daemon read from the queue
    left_over: list[int] = field(default_factory=list)  # pids of machines that outlived the end
    runs: dict[str, dict[int, dict[int, str]]] = field(default_factory=dict)  # cloud -> what was in its bucket
    straight: str = ""  # uri of the uninterrupted run


def play(settings: Settings, tell: Tell) -> Record:
    """Run it all. Raises DemoError; leaves no process behind."""
    began = time.monotonic()
    state, straight = settings.folder / "state", settings.folder / "straight"
    with straight_run(settings, straight), skies(settings.folder) as clouds:
        tell("two fake clouds: EC2, SQS and S3 by moto; Compute Engine and Cloud Storage by a fake")
        os.environ.update(clouds.told["environment"])  # the losses are read from the buckets
        with _daemon(settings, state, clouds) as daemon:
            client = connect(state, daemon, READY_SECONDS)
            name = _submit(client, settings, clouds)
            tell(f"submitted {name}: {settings.steps} steps of a small decoder")
            record = _watch(client, clouds, name, settings, tell, began)
        record.runs = {cloud: losses(f"{place}/{name}") for cloud, place in clouds.told["checkpoints"].items()}
        _read_logs(record, settings.folder)
    record.straight = straight.as_uri()
    record.left_over = node_processes(settings.folder / "machines")
    return record


@contextmanager
def _daemon(settings: Settings, state: Path, clouds: Skies) -> Iterator[subprocess.Popen[bytes]]:
    state.mkdir(parents=True)
    (state / "config.toml").write_text(_config(clouds), encoding="utf-8")
    command = [sys.executable, "-m", "dsched.scheduler.daemon", "--state", str(state)]
    environment = os.environ | clouds.told["environment"]
    with (settings.folder / "daemon.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        try:
            yield process
        finally:
            end(process)


def _config(clouds: Skies) -> str:
    told = clouds.told
    tables = {
        "nodes": {"listen": f"127.0.0.1:{_free_port()}", "probe": False},
        "nodes.checkpoints": told["checkpoints"],
        "aws": told["aws"],
        "gcp": told["gcp"],
    }
    lines = [_SETTINGS]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _submit(client: Client, settings: Settings, clouds: Skies) -> str:
    spec = {
        "name": "demo",
        "run": shlex.join([*train(settings), "--pace-ms", str(PACE_MS)]),
        "env": clouds.told["environment"],
        "gpus": {"type": ["L4"], "count": 1},
        "capacity": ["spot", "on-demand"],
        "checkpoint": {"every": "2s"},
        "duration": "8h",
    }
    return client.submit({"spec": spec, "key": f"demo-{os.getpid()}"})["id"]


def _watch(client: Client, clouds: Skies, name: str, settings: Settings, tell: Tell, began: float) -> Record:
    """Follow the job to its end and its machines to theirs; EC2 wants its machine back on the way."""
    warned = dict[str, Any]()
    for job in follow(client, name, tell, began, settings.limit_seconds):
        if not warned and job["state"] == "running" and job["step"] >= LOSE_AT * settings.steps:
            warned = clouds.ask("warn")
            tell(f"-- EC2 warns: it takes {warned['machine']} in two minutes --")
    seconds = time.monotonic() - began
    deadline = time.monotonic() + LEFT_SECONDS
    while (found := clouds.ask("seen"))["left"] and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    return Record(
        job=client.job(name),
        attempts=client.attempts(name),
        events=all_events(client),
        bill=client.bill(name),
        seconds=seconds,
        warned=warned,
        seen=found,
        told=clouds.told,
    )


def _read_logs(record: Record, folder: Path) -> None:
    """What only the processes' own words tell."""
    for script in folder.glob("machines/*/*/user-data"):
        record.user_data.append(script.stat().st_size)
    for log in folder.glob("machines/*/*/agent.log"):
        record.tls += [str(line["daemon"]) for line in _json_lines(log) if line.get("event") == "uplink.welcome"]
    for line in _json_lines(folder / "daemon.log"):
        if line.get("event") == "hint" and line.get("kind") == "interrupt":
            record.hints.append(str(line["machine"]))


def _json_lines(log: Path) -> Iterator[dict[str, Any]]:
    """Those lines of a log that are objects: other programs write there, too."""
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                yield found
