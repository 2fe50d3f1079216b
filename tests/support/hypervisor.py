"""Between a fake cloud's machines and real processes: an agent for every machine that runs, killed with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.support.house import marked
from tests.support.metadata import FakeMetadata

# A bare machine's first process: it runs the user-data, as cloud-init does, and to end it turns the machine off.
INIT = 'cd "$DSCHED_NODE_DIR" && echo $$ >init && /bin/sh ./user-data; exec sleep 2147483647'
BARE = {"DSCHED_UNITS": "", "DSCHED_OFF": 'kill -9 "$(cat "$DSCHED_NODE_DIR/init")"'}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One that lives, as its cloud has it now. `taken_in_s`: from the cloud's warning to the end; None: not warned."""

    name: str
    place: str  # region or zone
    running: bool
    user_data: str  # a start script, or only the agent's configuration
    index: int = 0
    taken_in_s: float | None = None


@dataclass(slots=True)
class _Guest:
    agent: subprocess.Popen[bytes]
    metadata: FakeMetadata
    disk: Path
    warned: bool = False


class Hypervisor(threading.Thread, ABC):
    """User-data becomes a running agent; a warning shows in its metadata first; the end of a machine is SIGKILL."""

    flavour: str  # of the metadata service
    look_s: float  # between two looks at the cloud

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self._guests: dict[str, _Guest] = {}
        self._over = threading.Event()

    @abstractmethod
    def machines(self) -> Iterable[Machine]:
        """Every machine that is not gone."""

    @abstractmethod
    def powered_off(self, machine: Machine) -> None:
        """Tell the cloud that it has shut itself down."""

    def run(self) -> None:
        while not self._over.wait(self.look_s):
            self.look()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        for name in list(self._guests):
            self._end(name)

    def look(self) -> None:
        """Bring the processes in line with the machines."""
        living = {machine.name: machine for machine in self.machines()}
        for machine in living.values():
            if machine.running and machine.name not in self._guests:
                self._guests[machine.name] = self._boot(machine)
            guest = self._guests.get(machine.name)
            if guest is None:
                continue
            if machine.taken_in_s is not None and not guest.warned:
                guest.warned = True
                guest.metadata.interrupt(machine.taken_in_s)
            if machine.running and guest.agent.poll() is not None:
                self.powered_off(machine)
        for name in [name for name in self._guests if name not in living]:
            self._end(name)

    def metadata(self, machine: Machine) -> FakeMetadata:
        """The service that its agent asks."""
        return FakeMetadata(machine.user_data, index=machine.index)

    def _boot(self, machine: Machine) -> _Guest:
        disk = self._folder / machine.name
        disk.mkdir(parents=True, exist_ok=True)  # a name may come back, in some clouds
        metadata = self.metadata(machine)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(disk),
            "DSCHED_NODE_DIR": str(disk),
            "DSCHED_METADATA": metadata.address,
            "DSCHED_METADATA_FLAVOUR": self.flavour,
        }
        command = [sys.executable, "-m", "dsched.jobs.agent"]
        if machine.user_data.startswith("#!"):
            (disk / "user-data").write_text(machine.user_data)
            command, environment = ["/bin/sh", "-c", INIT], environment | BARE
        with (self._folder / f"{machine.name}.log").open("ab") as log:
            agent = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        return _Guest(agent, metadata, disk)

    def _end(self, name: str) -> None:
        guest = self._guests.pop(name)
        while left := marked(f"DSCHED_NODE_DIR={guest.disk}\0".encode()):
            for pid in left:
                _kill(pid)
            guest.agent.poll()  # reaped here, or its remains would be found for ever
        guest.agent.wait()
        guest.metadata.close()


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
