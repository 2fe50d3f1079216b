"""The API in numbers: answers per second, lists of 10,000 jobs, durable submissions, events to many readers.

    .venv/bin/python bench/api.py [seconds per figure]

The API, core, loop and store are the daemon's own, in this process; the clients are another process on the same socket.
Beside the figures: a calibration loop and this machine's own fdatasync, from the same run.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dsched.scheduler.api.limit import Limits
from dsched.scheduler.api.rows import JobRows, held_nodes
from dsched.scheduler.core.event import Event
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import Instant
from tests.support.office import SPEC, Office, office
from tests.support.stage import offer, spec

JOBS = 10_000
WATCHERS = 100
BATCH = 20  # events per publication in the fan-out
LIMITS = Limits(writes_per_s=1e9, writes_burst=1 << 40, streams=WATCHERS + 1)


async def main(seconds: float) -> None:
    print(f"machine: {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}")
    print(f"calibration: 2,000,000 loops in {calibrate():.3f} s; fdatasync p50 {fsync_us():.0f} us")
    with tempfile.TemporaryDirectory() as folder:
        async with office(Path(folder), limits=LIMITS) as built:
            await submissions(built, seconds)
        async with office(Path(folder, "two"), limits=LIMITS) as built:
            fill(built)
            encode(built)
            await figure(built, "GET /v1/health, 1 client", "GET", "/v1/health", 1, seconds)
            await figure(built, "GET /v1/jobs?limit=50 of 10,000, 1 client", "GET", "/v1/jobs?limit=50", 1, seconds)
            await figure(built, "GET /v1/jobs?limit=50 of 10,000, 16 clients", "GET", "/v1/jobs?limit=50", 16, seconds)
            await figure(built, "GET /v1/jobs?limit=10000, 1 client", "GET", "/v1/jobs?limit=10000", 1, seconds)
        async with office(Path(folder, "three"), limits=LIMITS) as built:
            await fan_out(built, seconds)


async def submissions(built: Office, seconds: float) -> None:
    await built.offers(replace(offer("use1-az1", 20.0), free=0))
    body = json.dumps({"spec": SPEC})
    for clients in (1, 64):
        await figure(built, f"POST /v1/jobs, durable, {clients} clients", "POST", "/v1/jobs", clients, seconds, body)


def fill(built: Office) -> None:
    """10,000 jobs: queued, ended, and one in ten with a deadline, so that its row is made anew each time."""
    now = built.clock.now()
    for number in range(1, JOBS + 1):
        deadline = Instant(now.market + 3_600_000) if number % 10 == 0 else None
        ended = number % 2 == 0
        job = Job(
            id=f"j{number}",
            key=f"k{number}",
            spec=spec(f"moe-{number}", user="root", deadline=deadline, steps=1_000),
            state=JobState.SUCCEEDED if ended else JobState.QUEUED,
            submitted=now,
            ended=now.market if ended else None,
        )
        built.state.put("job", job.id, job)


def encode(built: Office) -> None:
    rows, state, now = JobRows(), built.state, built.clock.now()
    for name in ("first", "again"):
        began = time.perf_counter()
        held = held_nodes(state)
        size = sum(len(rows.encoded(state, job, now, held)) for job in state.jobs.values())
        took = (time.perf_counter() - began) * 1e3
        print(f"{'rows of 10,000 jobs, ' + name:48} {took:8.1f} ms   {size / 1e6:.1f} MB")


async def fan_out(built: Office, seconds: float) -> None:
    """Events published as fast as the readers of another process take them, in batches of 20."""
    reader = await spawn(built, "events", "/v1/events", WATCHERS, seconds)
    while built.app.api.streams.open < WATCHERS:
        await asyncio.sleep(0.01)
    seq, end = built.broadcast.last_seq, time.monotonic() + seconds
    while time.monotonic() < end:
        at = built.clock.now()
        batch = [
            (seq + n, Event(kind="bench", at=at, job="j1", data={"sent": time.time_ns()})) for n in range(1, BATCH + 1)
        ]
        built.broadcast.publish(batch)
        seq += BATCH
        await asyncio.sleep(BATCH * WATCHERS / 10_000)
    built.broadcast.publish([(seq + 1, Event(kind="bench.end", at=built.clock.now()))])
    show(f"events to {WATCHERS} readers, 10,000/s offered", await told(reader), "deliveries/s")


async def figure(
    built: Office, name: str, method: str, path: str, clients: int, seconds: float, body: str = ""
) -> None:
    show(name, await told(await spawn(built, method, path, clients, seconds, body)), "per s")


def show(name: str, got: dict[str, Any], unit: str) -> None:
    print(f"{name:48} {got['rate']:8.0f} {unit}   p50 {got['p50']:.2f} ms   p99 {got['p99']:.2f} ms")


async def spawn(built: Office, *given: object) -> asyncio.subprocess.Process:
    call = [sys.executable, __file__, "--client", str(built.socket), *map(str, given)]
    return await asyncio.create_subprocess_exec(*call, stdout=asyncio.subprocess.PIPE)


async def told(process: asyncio.subprocess.Process) -> dict[str, Any]:
    out, _ = await process.communicate()
    got: dict[str, Any] = json.loads(out)
    return got


def calibrate() -> float:
    began = time.perf_counter()
    for _ in range(2_000_000):
        pass
    return time.perf_counter() - began


def fsync_us(rounds: int = 300) -> float:
    with tempfile.NamedTemporaryFile() as file:
        taken = []
        for _ in range(rounds):
            os.pwrite(file.fileno(), b"x" * 4096, 0)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return sorted(taken)[rounds // 2] * 1e6


# -- the clients, in their own process ------------------------------------------------------------------------------


async def client(socket: str, method: str, path: str, count: str, seconds: str, body: str = "") -> None:
    work = events if method == "events" else requests
    end = time.perf_counter() + float(seconds)
    began = time.perf_counter()
    parts = await asyncio.gather(*(work(socket, method, path, body.encode(), end) for _ in range(int(count))))
    took = time.perf_counter() - began
    taken = sorted(ms for part in parts for ms in part)
    print(
        json.dumps({"rate": len(taken) / took, "p50": at(taken, 0.5), "p99": at(taken, 0.99), "most": at(taken, 1.0)})
    )


async def requests(socket: str, method: str, path: str, body: bytes, end: float) -> list[float]:
    reader, writer = await asyncio.open_unix_connection(socket, limit=1 << 26)
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    taken = []
    while (began := time.perf_counter()) < end:
        writer.write(head + body)
        status, *fields = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        length = next(field for field in fields if field.startswith(b"content-length"))
        answer = await reader.readexactly(int(length.split(b":")[1]))
        assert status.split()[1] in (b"200", b"201"), answer[:500]
        taken.append((time.perf_counter() - began) * 1e3)
    writer.close()
    return taken


async def events(socket: str, method: str, path: str, body: bytes, end: float) -> list[float]:
    reader, writer = await asyncio.open_unix_connection(socket)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n".encode())
    taken, held = [], b""
    while b"bench.end" not in held:
        data = await reader.read(1 << 16)
        now = time.time_ns()
        *whole, held = (held + data).split(b"\n\n")
        for frame in whole:
            _, found, sent = frame.partition(b'"sent":')
            if found:
                taken.append((now - int(sent.rstrip(b"}"))) / 1e6)
            elif b"bench.end" in frame:
                writer.close()
                return taken
    writer.close()
    return taken


def at(taken: list[float], share: float) -> float:
    return taken[min(len(taken) - 1, int(len(taken) * share))] if taken else 0.0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        asyncio.run(client(*sys.argv[2:]))
    else:
        asyncio.run(main(float(sys.argv[1]) if sys.argv[1:] else 3.0))
