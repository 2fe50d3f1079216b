"""What the parts share: a daemon in a folder of its own, submissions by the thousand, what its processes use."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.figure import Figure
from bench.machine import Machine
from dsched.providers.local.provider import LocalProvider
from dsched.scheduler.api.client import Client
from tests.support.house import House, wait_for

ROOT: Final = Path(__file__).resolve().parent.parent.parent
CALM: Final = ("--scale", "1", "--idle-seconds", "600")  # the market hardly moves while something is measured
WAITING: Final = {  # dearer than the user allows: it waits, and a change of price lets the planner look again
    "name": "bench",
    "run": "true",
    "gpus": {"type": ["H100"], "count": 8},
    "max_price": "0.50",
    "capacity": ["spot"],
}
RUNNING: Final = {"gpus": {"type": ["H100"], "count": 8}, "capacity": ["on-demand"]}


class Scale(NamedTuple):
    """How much is measured."""

    seconds: float  # per rate
    rounds: int  # per latency
    trains: int  # kills of a real torch job
    starts: int
    jobs: int


FULL: Final = Scale(seconds=4.0, rounds=20, trains=3, starts=5, jobs=10_000)
QUICK: Final = Scale(seconds=1.5, rounds=6, trains=1, starts=2, jobs=10_000)
Part = Callable[[Path, Scale], Iterator[Figure]]


class Rate(NamedTuple):
    per_s: float
    p50: float  # ms
    p99: float
    most: float


@contextmanager
def home(folder: Path, *options: str, wrapper: Sequence[str] = (), start: bool = True) -> Iterator[House]:
    """A daemon with its embedded cloud; nothing of it is left afterwards."""
    built = House(folder / "s", (*CALM, *options))
    built.state.mkdir(parents=True)
    try:
        if start:
            built.start(wrapper=wrapper)
        yield built
    finally:
        built.end()


def submissions(built: House, clients: int, seconds: float, spec: Any = WAITING) -> Rate:
    """As many as `clients` connections can get answered; each answer is a durable job."""
    body = json.dumps({"spec": spec})
    call = [sys.executable, str(ROOT / "bench/api.py"), "--client", str(built.state / "api.sock")]
    said = subprocess.check_output([*call, "POST", "/v1/jobs", str(clients), str(seconds), body])
    got = json.loads(said)
    return Rate(got["rate"], got["p50"], got["p99"], got["most"])


def fill(built: House, count: int, *, classes: int = 1) -> None:
    """`count` jobs that wait, of so many different requirement classes."""
    specs = [WAITING | {"max_price": f"{0.5 + n / 1e5:.5f}"} for n in range(classes)]
    asyncio.run(_fill(built.state / "api.sock", [specs[n % classes] for n in range(count)]))


async def _fill(socket: Path, specs: Sequence[Any]) -> None:
    waiting = iter(specs)

    async def client() -> None:
        reader, writer = await asyncio.open_unix_connection(str(socket))
        for spec in waiting:
            body = json.dumps({"spec": spec}).encode()
            writer.write(b"POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            answer = await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
            assert head.split()[1] == b"201", answer[:500]
        writer.close()

    await asyncio.gather(*(client() for _ in range(32)))


def cloud(built: House) -> LocalProvider:
    return LocalProvider(built.state / "cloud" / "cloud.sock")


def pull(built: House, lever: str, **what: Any) -> None:
    asyncio.run(cloud(built).inject(lever, **what))


def event(client: Client, kind: str, *, after: int, job: str = "") -> Any:
    """The first event of this kind behind `after`, as soon as there is one."""

    def there() -> Any:
        return next((e for e in client.events(after=after, limit=1000, job=job) if e["kind"] == kind), None)

    return wait_for(there, f"{kind} behind {after}")


def settled(built: House) -> None:
    """Every machine stands idle."""
    wait_for(lambda: all(n["state"] == "ready" and not n["job"] for n in built.client.nodes()), "idle nodes")


def memory_mib(built: House) -> tuple[float, float]:
    """Resident and proportional memory of the daemon."""
    assert built.process is not None
    lines = Path(f"/proc/{built.process.pid}/smaps_rollup").read_text().splitlines()[1:]
    told = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return told["Rss"] / 1024, told["Pss"] / 1024


def used_s(pid: int) -> float:
    """CPU seconds of a process, all of its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine(folder: Path) -> Machine:
    folder.mkdir(parents=True, exist_ok=True)
    return Machine.now(folder)


def since(began: float) -> float:
    """Milliseconds."""
    return (time.monotonic() - began) * 1e3
