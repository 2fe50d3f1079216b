"""The daemon without a cloud: core, loop, store, desk and API as they are, on a real unix socket; the clock is ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import httpx

from dsched.scheduler.api.app import create_app
from dsched.scheduler.api.broadcast import Broadcast
from dsched.scheduler.api.limit import GENEROUS, Limits
from dsched.scheduler.api.ports import NOTHING_MORE, Extras
from dsched.scheduler.api.serve import serve
from dsched.scheduler.auth.principal import Roles
from dsched.scheduler.core.event import Event
from dsched.scheduler.core.market import Offer
from dsched.scheduler.core.message import Launched, OffersSeen, SeenNode
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.snapshot import State
from dsched.scheduler.core.terms import Terms
from dsched.scheduler.core.units import HOUR, Instant, Moment
from dsched.scheduler.engine.clock import Clock
from dsched.scheduler.engine.control import Control
from dsched.scheduler.engine.desk import BOOTSTRAP, Desk
from dsched.scheduler.engine.loop import Loop
from dsched.scheduler.store.bundles import Bundles
from dsched.scheduler.store.logbook import LogBook
from dsched.scheduler.store.writer import Store

WAIT_S = 60.0  # a fact that does not come within this never comes
SPEC = {"name": "moe", "run": "train", "gpus": {"type": ["H100"], "count": 8}}
NOON = Moment(Instant(10 * HOUR), Instant(1_000 * HOUR))


@dataclass(slots=True)
class HandClock(Clock):
    """Stands still until it is moved."""

    moment: Moment = NOON
    shift: int = 0  # of the wall clock, against the one that nobody sets

    def now(self) -> Moment:
        return self.moment

    def boot(self) -> int:
        return self.moment.wall - self.shift

    def set(self, by: int) -> None:
        """Somebody sets the wall clock; no time passes."""
        self.shift += by
        self.move(by)

    def move(self, wall: int, scale: float = 1.0) -> None:
        now = self.moment
        self.moment = Moment(Instant(now.wall + wall), Instant(now.market + int(wall * scale)))


class Office:
    def __init__(self, folder: Path, *, roles: Roles | None, limits: Limits, extras: Extras) -> None:
        self.socket = folder / "api.sock"
        self.clock = HandClock()
        self.store = Store.open(folder / "state")
        self.broadcast = Broadcast(self.store.seq)
        self.loop = Loop(
            self.store.load(),
            self.store,
            self.clock,
            Random(7),
            policy=Policy(),
            terms=Terms(),
            publish=self._publish,
            carry=self._carry,
        )
        self.desk = Desk(
            self.loop, b"k" * 32, address=f"unix:{self.socket}", checkpoints=lambda job, _: f"file:///{job}"
        )
        self.control = Control(self.loop, {}, Random(7))
        self.logs = LogBook(folder / "logs", job_max=4096, piece_max=1024)
        self.bundles = Bundles(folder / "bundles", most=limits.bundle_bytes)
        self.stop = asyncio.Event()
        self.app = create_app(
            self.control,
            self.broadcast,
            self.desk,
            self.logs,
            self.bundles,
            self.store.queries,
            roles=roles,
            limits=limits,
            extras=extras,
        )

    @property
    def state(self) -> State:
        return self.loop.state

    def _publish(self, batch: Sequence[tuple[int, Event]]) -> None:
        self.control.seq = batch[-1][0]
        self.broadcast.publish(batch)

    def _carry(self, effects: Sequence[Any]) -> None:
        for effect in effects:
            if type(effect).__name__.startswith("Tell"):
                self.desk.tell(effect)

    def client(self) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(uds=str(self.socket))
        return httpx.AsyncClient(transport=transport, base_url="http://dsched", timeout=WAIT_S)

    async def offers(self, *offers: Offer) -> None:
        now = self.clock.now().market
        stamped = tuple(replace(o, quote=replace(o.quote, at=now)) if o.quote else o for o in offers)
        await self.loop.send(OffersSeen(provider="local", offers=stamped))

    async def launch(self) -> list[str]:
        """The provider answers the open launch with machines; their names."""
        intent = next(iter(self.state.intents.values()))
        seen = tuple(
            SeenNode(
                ref=f"i-{name}",
                token=intent.id,
                index=index,
                pool=intent.pool,
                alive=True,
                launched=self.clock.now().market,
            )
            for index, name in enumerate(intent.nodes)
        )
        await self.loop.send(Launched(intent=intent.id, nodes=seen))
        return list(intent.nodes)

    def secret(self, node: str) -> str:
        return self.desk.secret(node.rpartition(".")[0], Instant(self.clock.now().wall + BOOTSTRAP))


@asynccontextmanager
async def office(
    folder: Path, *, roles: Roles | None = None, limits: Limits = GENEROUS, extras: Extras = NOTHING_MORE
) -> AsyncIterator[Office]:
    """A running office; everything ends with the block."""
    built = Office(folder, roles=roles, limits=limits, extras=extras)
    ready = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as group:
            core = group.create_task(built.loop.run())
            group.create_task(serve(built.app, built.socket, built.stop, ready=ready))
            await ready.wait()
            try:
                yield built
            finally:
                built.stop.set()
                core.cancel()
    finally:
        built.logs.close()
        built.store.close()
