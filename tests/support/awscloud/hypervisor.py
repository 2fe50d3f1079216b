"""Between moto's instances and real processes: an agent for every machine that runs, killed with it."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.awscloud.process import AwsCloud
from tests.support.house import marked
from tests.support.metadata import FakeMetadata

LOOK_S: Final = 0.05  # each look is a call


@dataclass(slots=True)
class _Guest:
    agent: subprocess.Popen[bytes]
    metadata: FakeMetadata
    disk: Path
    warned: bool = False


class Hypervisor(threading.Thread):
    """User-data becomes a running agent; a warning shows in its metadata; the end of a machine is SIGKILL."""

    def __init__(self, cloud: AwsCloud, folder: Path) -> None:
        super().__init__(daemon=True)
        self._cloud, self._folder = cloud, folder
        self._guests: dict[str, _Guest] = {}
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(LOOK_S):
            self.look()

    def __enter__(self) -> Hypervisor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        for name in list(self._guests):
            self._end(name)

    def look(self) -> None:
        """Bring the processes in line with the machines."""
        machines = {row["id"]: row for row in self._cloud.pull("guests")}
        for name, row in machines.items():
            if name not in self._guests:
                self._boot(name, row)
            guest = self._guests[name]
            if row["taken_at"] and not guest.warned:
                guest.warned = True
                guest.metadata.interrupt(row["taken_at"] - time.time())
            if guest.agent.poll() is not None:  # it has shut its machine down
                self._cloud.pull("end", region=row["region"], name=name, code="Client.InstanceInitiatedShutdown")
        for name in [name for name in self._guests if name not in machines]:
            self._end(name)

    def _boot(self, name: str, row: dict[str, Any]) -> None:
        disk = self._folder / name
        disk.mkdir(parents=True)
        metadata = FakeMetadata(json.loads(base64.b64decode(row["user_data"])), index=row["index"])
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(disk),
            "DSCHED_NODE_DIR": str(disk),
            "DSCHED_METADATA": metadata.address,
            "DSCHED_METADATA_FLAVOUR": "aws",
        }
        with (self._folder / f"{name}.log").open("ab") as log:
            agent = subprocess.Popen(
                [sys.executable, "-m", "dsched.jobs.agent"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        self._guests[name] = _Guest(agent, metadata, disk)

    def _end(self, name: str) -> None:
        guest = self._guests.pop(name)
        while left := marked(f"DSCHED_NODE_DIR={guest.disk}\0".encode()):
            for pid in left:
                _kill(pid)
            guest.agent.poll()  # reaped here, or its remains would be found for ever
            guest.agent.wait()
        guest.agent.wait()
        guest.metadata.close()


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
