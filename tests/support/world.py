"""One world per provider: the levers that a contract test may pull behind the provider's back."""

from __future__ import annotations

import asyncio
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import psutil

from dsched.providers.base import Invalid, Launch, NodeRef, Provider
from dsched.providers.fake.cloud import FakeCloud, Stock
from dsched.providers.fake.provider import FakeProvider, Fault, Mishap
from dsched.providers.local.options import Options
from dsched.providers.local.provider import LocalProvider
from dsched.providers.local.start import ensure
from dsched.scheduler.core.hardware import Shape
from dsched.scheduler.core.market import Market, Pool
from dsched.scheduler.core.units import Instant, MicroUsdPerHour, Millis, Moment

T = TypeVar("T")

NODE = (sys.executable, "-I", "-S", str(Path(__file__).parent / "node.py"))
WAIT_S = 60.0  # for a fact that must come; the machine may be busy
STEP_S = 0.01


class World(Protocol):
    """`pool` is a spot pool with room for at least 24 nodes."""

    pool: Pool

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    def provider(self) -> Provider:
        """A new one, as a new daemon would make it."""
        ...

    def dead_provider(self) -> Provider:
        """One whose cloud does not answer."""
        ...

    def wall(self) -> Instant: ...
    async def stockout(self) -> None: ...
    async def free(self) -> int:
        """How many more `pool` can sell: asked where an offer does not tell."""
        ...

    async def raise_price(self) -> None:
        """To twice what it was."""
        ...

    async def refuse_launch(self, how: str) -> None:
        """The next launch meets "throttled", "auth", "quota" or "invalid"."""
        ...

    async def lose_reply(self, *, done: bool) -> None:
        """The next launch gets no answer, having been done or not."""
        ...

    async def break_reads(self, how: str) -> None:
        """The next read meets "lost" or "throttled"."""
        ...

    async def interrupt(self, ref: NodeRef, *, notice: bool) -> None: ...
    async def foreign(self) -> NodeRef:
        """A machine in the same account that is not ours."""
        ...

    async def foreign_runs(self, ref: NodeRef) -> bool: ...
    async def user_data(self, ref: NodeRef) -> bytes: ...
    async def until(self, fact: Callable[[], Awaitable[T | None]]) -> T:
        """Let time pass until the fact is there."""
        ...


class FakeWorld:
    """In memory; time stands still but for `until`. A new node and an end show up late."""

    def __init__(self) -> None:
        shape = Shape(name="gpu-1", accelerator=None, gpus=0, vcpus=4, memory_gib=16)
        self.pool = Pool("fake", "region", "region-a", shape.name, Market.SPOT)
        stock = Stock(
            pool=self.pool,
            shape=shape,
            price=MicroUsdPerHour(1_000_000),
            on_demand=MicroUsdPerHour(3_000_000),
            capacity=64,
            notice=Millis(300),
            boot=Millis(300),
        )
        self._wall = 1_700_000_000_000
        self.cloud = FakeCloud([stock], now=self._now, rng=random.Random(1), lag=Millis(500))
        self._faults: list[Fault] = []

    async def open(self) -> None: ...
    async def close(self) -> None: ...

    def provider(self) -> FakeProvider:
        provider = FakeProvider(self.cloud)
        provider.faults = self._faults
        return provider

    def dead_provider(self) -> FakeProvider:
        return FakeProvider(self.cloud, reachable=False)

    def wall(self) -> Instant:
        return Instant(self._wall)

    async def stockout(self) -> None:
        self.cloud.restock(self.pool, capacity=0)

    async def raise_price(self) -> None:
        self.cloud.restock(self.pool, price=MicroUsdPerHour(2_000_000))

    async def refuse_launch(self, how: str) -> None:
        self._faults.append(Fault("launch", Mishap(how)))

    async def lose_reply(self, *, done: bool) -> None:
        self._faults.append(Fault("launch", Mishap.LOST_AFTER if done else Mishap.LOST_BEFORE))

    async def break_reads(self, how: str) -> None:
        mishap = Mishap.PAGE_LOST if how == "lost" else Mishap.THROTTLED
        self._faults += [Fault("nodes", mishap), Fault("offers", mishap)]

    async def interrupt(self, ref: NodeRef, *, notice: bool) -> None:
        self.cloud.interrupt(ref, notice=notice)

    async def foreign(self) -> NodeRef:
        return self.cloud.foreign(self.pool)

    async def foreign_runs(self, ref: NodeRef) -> bool:
        return self.cloud.machine(ref).ended is None

    async def user_data(self, ref: NodeRef) -> bytes:
        return self.cloud.machine(ref).user_data.encode()

    async def until(self, fact: Callable[[], Awaitable[T | None]]) -> T:
        for _ in range(10_000):
            if (found := await fact()) is not None:
                return found
            self._wall += 100
            await asyncio.sleep(0)
        raise AssertionError("it never became true")

    def _now(self) -> Moment:
        return Moment(wall=Instant(self._wall), market=Instant(self._wall))


class RealWorld(ABC):
    """One in which time passes by itself."""

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def wall(self) -> Instant:
        return Instant(time.time_ns() // 1_000_000)

    async def until(self, fact: Callable[[], Awaitable[T | None]]) -> T:
        async with asyncio.timeout(WAIT_S):
            while True:
                if (found := await fact()) is not None:
                    return found
                await asyncio.sleep(STEP_S)


class LocalWorld(RealWorld):
    """The embedded cloud as a real process, with real processes as nodes."""

    def __init__(self, *, zone: str = "use1-az1", shape: str = "g6.xlarge", **options: Any) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dsched-"))
        self.options = Options(**{"scale": 60.0, "notice_scale": 400.0, "agent": NODE, **options})
        region = {"use1-az1": "us-east-1", "us-central1-a": "us-central1"}[zone]
        self.pool = Pool("local", region, zone, shape, Market.SPOT)
        self._strangers: dict[NodeRef, subprocess.Popen[bytes]] = {}

    async def open(self) -> None:
        await ensure(self.folder, self.options)
        await self.provider().inject("capacity", pool=self.pool.id, count=40)

    async def close(self) -> None:
        for stranger in self._strangers.values():
            stranger.kill()
            stranger.wait()
        try:
            await ensure(self.folder, self.options)
            await self.provider().shutdown()
            await self.until(self._nothing_left)
        finally:
            left = self._clear_away()
        assert not left, f"left over: {left}"

    def provider(self) -> LocalProvider:
        return LocalProvider(self.folder / "cloud.sock", timeout=Millis(round(WAIT_S * 1_000)))

    def dead_provider(self) -> LocalProvider:
        return LocalProvider(self.folder / "nobody.sock")

    async def stockout(self) -> None:
        await self.provider().inject("capacity", pool=self.pool.id, count=0)

    async def raise_price(self) -> None:
        await self.provider().inject("price", pool=self.pool.id, factor=2.0)

    async def refuse_launch(self, how: str) -> None:
        await self.provider().inject("fault", op="launch", error=how)

    async def lose_reply(self, *, done: bool) -> None:
        await self.provider().inject("fault", op="launch", error="lost-after" if done else "lost-before")

    async def break_reads(self, how: str) -> None:
        for op in ("nodes", "offers"):
            await self.provider().inject("fault", op=op, error="lost-after" if how == "lost" else "throttled")

    async def interrupt(self, ref: NodeRef, *, notice: bool) -> None:
        with suppress(Invalid):  # under notice already
            await self.provider().inject("interrupt", node=ref.id, notice=notice)

    async def foreign(self) -> NodeRef:
        """A process of somebody else, started the way nodes are."""
        ref = NodeRef("local", f"i-{len(self._strangers):017x}")
        self._strangers[ref] = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--kill-child", "sleep", "3600"], start_new_session=True
        )
        return ref

    async def foreign_runs(self, ref: NodeRef) -> bool:
        return self._strangers[ref].poll() is None

    async def user_data(self, ref: NodeRef) -> bytes:
        node = next(node for node in await self.provider().nodes() if node.ref == ref)
        path = self.disk(f"{node.token}.{node.index}") / "user-data"

        async def fetched() -> bytes | None:
            return path.read_bytes() if path.exists() else None

        return await self.until(fetched)

    def disk(self, node: str) -> Path:
        return self.folder / "nodes" / node

    def kill_cloud(self) -> None:
        """SIGKILL to the cloud's own process; returns when it is gone."""
        pid = self.cloud_pid()
        with os.fdopen(os.pidfd_open(pid)) as pidfd:
            os.kill(pid, signal.SIGKILL)
            ended, _, _ = select.select([pidfd], [], [], WAIT_S)
            assert ended

    def cloud_pid(self) -> int:
        return self._clouds()[0].pid

    def processes(self, node: str = "") -> list[psutil.Process]:
        """Every living process of one node, or of all, by the mark in its environment."""
        mark = str(self.folder / "nodes" / node)
        return [p for p in psutil.process_iter() if _mark(p).startswith(mark)]

    def _clouds(self) -> list[psutil.Process]:
        return [p for p in psutil.process_iter() if {str(self.folder), "--state"} <= set(_arguments(p))]

    def _clear_away(self) -> list[psutil.Process]:
        """Kill what should not be there any more, and tell."""
        left = [*self._clouds(), *self.processes()]
        for process in left:
            process.kill()
        print((self.folder / "cloud.log").read_text())  # shown for a failed test
        shutil.rmtree(self.folder)
        return left

    async def _nothing_left(self) -> bool | None:
        return None if self.processes() or self._clouds() else True


def want(world: World, token: str, **changes: Any) -> Launch:
    lease_until = Instant(world.wall() + 60_000)
    usual = {"token": token, "pool": world.pool, "count": 1, "user_data": "{}", "lease_until": lease_until}
    return Launch(**{**usual, **changes})


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _mark(process: psutil.Process) -> str:
    try:
        return "" if process.status() == psutil.STATUS_ZOMBIE else process.environ().get("DSCHED_NODE_DIR", "")
    except psutil.Error:
        return ""
