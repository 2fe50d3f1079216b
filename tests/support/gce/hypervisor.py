"""Between the fake's machines and real processes: an agent for every machine that runs, killed with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.gce.cloud import Gce
from tests.support.house import marked
from tests.support.metadata import FakeMetadata

LOOK_S: Final = 0.01
Key = tuple[str, str]  # zone, name


@dataclass(slots=True)
class _Guest:
    agent: subprocess.Popen[bytes]
    metadata: FakeMetadata
    disk: Path
    warned: bool = False


class Hypervisor(threading.Thread):
    """User-data becomes a running agent; a preemption shows in its metadata first; the end of a machine is SIGKILL."""

    def __init__(self, cloud: Gce, folder: Path) -> None:
        super().__init__(daemon=True)
        self._cloud, self._folder = cloud, folder
        self._guests: dict[Key, _Guest] = {}
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
        for key in list(self._guests):
            self._end(key)

    def look(self) -> None:
        """Bring the processes in line with the machines."""
        with self._cloud.changed:
            self._cloud.settle()
            machines = dict(self._cloud.machines)
        for key, machine in machines.items():
            if machine.status == "RUNNING" and key not in self._guests:
                self._boot(key, machine.metadata)
            guest = self._guests.get(key)
            if guest is not None and machine.preempted and not guest.warned:
                guest.warned = True
                guest.metadata.interrupt(self._cloud.notice)
        for key, guest in list(self._guests.items()):
            if key not in machines or machines[key].status == "TERMINATED":
                self._end(key)
            elif guest.agent.poll() is not None and machines[key].status == "RUNNING":
                with self._cloud.changed:
                    self._cloud.guest_exit(*key)

    def _boot(self, key: Key, attributes: dict[str, str]) -> None:
        disk = self._folder / key[1]
        disk.mkdir(parents=True, exist_ok=True)
        metadata = FakeMetadata(json.loads(attributes["user-data"]))
        metadata.gce_name = key[1]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(disk),
            "DSCHED_NODE_DIR": str(disk),
            "DSCHED_METADATA": metadata.address,
            "DSCHED_METADATA_FLAVOUR": "gcp",
        }
        with (self._folder / f"{key[1]}.log").open("ab") as log:
            agent = subprocess.Popen(
                [sys.executable, "-m", "dsched.jobs.agent"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        self._guests[key] = _Guest(agent, metadata, disk)

    def _end(self, key: Key) -> None:
        guest = self._guests.pop(key)
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
