"""A real daemon with its embedded cloud in its own folder: started, killed, started again, and swept up at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsched.scheduler.api.client import RESUME_S, Client, ClientError

PATIENCE_S = 60.0  # a busy machine; what is waited for usually takes milliseconds


class Late(AssertionError):
    """A fact that was waited for did not come."""


def wait_for(fact: Any, what: str, *, patience: float = PATIENCE_S, every: float = 0.01) -> Any:
    """The first true value of `fact()`."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            if found := fact():
                return found
        except ClientError:
            pass
        time.sleep(every)
    raise Late(f"waited {patience:.0f} s for {what}")


@dataclass(slots=True)
class House:
    """One state directory. `start` and `kill` may alternate as often as wanted."""

    state: Path
    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    resume: float = RESUME_S  # how long a call waits for a dead daemon; 0 where the caller has to start it

    @property
    def client(self) -> Client:
        return Client(str(self.state / "api.sock"), resume=self.resume)

    @property
    def log(self) -> Path:
        return self.state.parent / f"{self.state.name}.log"

    def start(self, *, wrapper: Sequence[str] = (), wait: bool = True) -> None:
        command = [*wrapper, sys.executable, "-m", "dsched.scheduler.daemon", "--state", str(self.state), *self.options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | dict(self.environment),
                start_new_session=True,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise Late(f"the daemon ended with {self.process.returncode}:\n{self.log.read_text()[-2000:]}")
            return self.client.health()["ready"]

        wait_for(ready, "a ready daemon")

    def kill(self, how: int = signal.SIGKILL) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                os.killpg(self.process.pid, how)
            self.process.wait()

    def submit(self, name: str, run: str, **more: Any) -> str:
        # On demand: the market must not add interruptions of its own to those that a test deals.
        gpus = {"type": ["H100"], "count": 8}
        spec = {"name": name, "run": run, "gpus": gpus, "capacity": ["on-demand"]} | more
        return self.client.submit({"spec": spec, "key": name})["id"]

    def wait_state(self, job: str, *states: str, patience: float = PATIENCE_S) -> Any:
        def there() -> Any:
            found = self.client.job(job)
            return found if found["state"] in states else None

        return wait_for(there, f"{job} to be {' or '.join(states)}", patience=patience)

    def node_processes(self) -> list[int]:
        """Everything that lives on one of this house's nodes, grandchildren too."""
        return marked(f"DSCHED_NODE_DIR={self.state}".encode())

    def end(self) -> None:
        """End the cloud, every node and the daemon, whatever state they are in."""
        self.kill()
        for pid in marked(str(self.state).encode(), where="cmdline"):
            _kill(pid)
        wait_for(lambda: not [_kill(pid) for pid in self.node_processes()], "the nodes' end")


def marked(mark: bytes, *, where: str = "environ") -> list[int]:
    """Processes whose environment (or command line) holds `mark`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark in (entry / where).read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended while we looked, or is not ours
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@contextmanager
def house(folder: Path, *options: str, **environment: str) -> Iterator[House]:
    """A started daemon at 60x market speed; nothing of it is left afterwards."""
    built = House(folder / "s", ("--scale", "60", "--observe-seconds", "0.5", *options), environment)
    built.state.mkdir(parents=True)
    try:
        built.start()
        yield built
    finally:
        built.end()
