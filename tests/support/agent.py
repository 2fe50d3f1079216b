"""A real agent process on a fake cloud, and the certainty that nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.support.home import WAIT_S, FakeHome
from tests.support.metadata import FakeMetadata

PYTHON = f"{sys.executable} -ISu"  # starts in 10 ms
FOREVER = "exec sleep 1000"
DEAF = "trap '' TERM; echo ready; while :; do sleep 1000; done"
SAVER = "exec 2>/dev/null; trap 'echo saved; exit 75' TERM; echo ready; while :; do sleep 1000 & wait $!; done"

REPORTER = f"""{PYTHON} -c '
import json, os, signal, socket, sys
out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
def tell(**body): out.sendto(json.dumps(body).encode(), os.environ["DSCHED_SOCKET"])
{{}}
'"""


class AgentProcess:
    def __init__(
        self,
        folder: Path,
        meta: FakeMetadata,
        home: FakeHome,
        flavour: str,
        env: dict[str, str],
        wrap: Sequence[str] = (),
    ) -> None:
        self.meta, self.home, self.node_dir = meta, home, folder / "node"
        self.errors = folder / "agent.err"
        self.marker = f"{folder}"  # in the environment of the agent and, by DSCHED_NODE_TEST, of all that it starts
        environ = {
            **os.environ,
            "DSCHED_METADATA": meta.address,
            "DSCHED_METADATA_FLAVOUR": flavour,
            "DSCHED_NODE_DIR": str(self.node_dir),
            "TORCH_TEST_NODE": self.marker,  # a name that ranks inherit
            **env,
        }
        self.began = time.monotonic()
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(
                [*wrap, sys.executable, "-m", "dsched.jobs.agent"], env=environ, stdin=subprocess.DEVNULL, stderr=errors
            )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(WAIT_S)

    def wait(self) -> int:
        return self.process.wait(WAIT_S)

    def survivors(self) -> list[psutil.Process]:
        """Every living process with this test's mark, the guard too."""
        found = []
        for process in psutil.process_iter():
            try:
                ended = process.status() == psutil.STATUS_ZOMBIE
                if not ended and process.environ().get("TORCH_TEST_NODE") == self.marker:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def gone(self) -> bool:
        """Waits until nothing is left; false when something stays."""
        try:
            until(lambda: not self.survivors())
        except TimeoutError:
            return False
        return True


def until(what: Callable[[], object]) -> None:
    """Looks again and again until it is true, for what announces itself in no other way."""
    limit = time.monotonic() + WAIT_S
    while not what():
        if time.monotonic() > limit:
            raise TimeoutError
        time.sleep(0.005)


@contextmanager
def agent(
    folder: Path,
    *,
    flavour: str = "aws",
    lease_ms: int = 60_000,
    drain_ms: int = 1_000,
    env: dict[str, str] | None = None,
    wrap: Sequence[str] = (),
    quiet: bool = False,
) -> Iterator[AgentProcess]:
    """An agent with its metadata service and its daemon. Killed afterwards; what it leaves behind fails the test."""
    home = FakeHome(folder / "api.sock", lease_ms=lease_ms)
    meta = FakeMetadata(
        {
            "cluster": "test",
            "token": "launch",
            "daemon": f"unix:{home.path}",
            "secret": "secret",
            "lease_until": int(time.time() * 1_000) + lease_ms,
            "drain_ms": drain_ms,
            "heartbeat_ms": 1_000,
        },
        index=3,
    )
    running = AgentProcess(folder, meta, home, flavour, env or {}, wrap)
    try:
        yield running
    finally:
        running.kill()
        left = not running.gone()
        for process in running.survivors():
            process.kill()
        home.close()
        meta.close()
        if not quiet:
            print(running.errors.read_text())  # shown for a failed test
        assert not left, "the agent's death left processes behind"


def reporter(code: str) -> str:
    """A rank that speaks: `tell(event=..., ...)` sends a datagram."""
    assert "'" not in code
    return REPORTER.replace("{}", code)


def rank_of(running: AgentProcess, rank: int = 0) -> psutil.Process:
    """The leader of a rank."""

    def leaders() -> list[psutil.Process]:
        mine = [p for p in running.survivors() if p.environ().get("RANK") == str(rank)]
        return [process for process in mine if os.getsid(process.pid) == process.pid]

    until(leaders)
    return leaders()[0]


def says(running: AgentProcess, text: bytes, **where: Any) -> None:
    running.home.wait(lambda: text in running.home.log(**where))
