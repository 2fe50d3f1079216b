"""Look at a provider: its machines and its offers, when something hints at a change and every so often anyway.

An error is never an empty list: when a provider does not answer, the core is told nothing.
"""

from __future__ import annotations

import asyncio
from typing import Final

from dsched.providers.base import Notice, NoticeKind, Provider, ProviderError
from dsched.scheduler.core.message import NodesSeen, OffersSeen
from dsched.scheduler.core.units import Instant
from dsched.scheduler.engine.loop import Loop
from dsched.scheduler.engine.translate import noticed, seen
from dsched.scheduler.log import log

CALL_SECONDS: Final = 30.0  # beyond that the answer would be stale


class Observer:
    """One per provider. `look` and `ask_prices` only set a flag: many hints make one call."""

    def __init__(self, provider: Provider, loop: Loop) -> None:
        self.name = provider.name
        self.fault = "not asked yet"  # why the last call failed; "" when it did not
        self.priced: Instant | None = None  # wall: last good answer of offers()
        self._provider, self._loop = provider, loop
        self._nodes, self._prices = asyncio.Event(), asyncio.Event()

    def look(self) -> None:
        self._nodes.set()

    def ask_prices(self) -> None:
        self._prices.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_nodes())
            group.create_task(self._watch_prices())
            group.create_task(self._watch_hints())

    async def refresh(self) -> None:
        """Ask for both now: used once at start, so that the first plan sees a market."""
        await self._ask_prices()
        await self._ask_nodes()

    async def _watch_nodes(self) -> None:
        while True:
            await self._nodes.wait()
            self._nodes.clear()
            await self._ask_nodes()

    async def _watch_prices(self) -> None:
        while True:
            await self._prices.wait()
            self._prices.clear()
            await self._ask_prices()

    async def _ask_nodes(self) -> None:
        asked = self._loop.clock.now().wall
        try:
            async with asyncio.timeout(CALL_SECONDS):
                nodes = await self._provider.nodes()
        except (ProviderError, TimeoutError) as error:
            self._failed("nodes", error)
            return
        self.fault = ""
        self._loop.post(NodesSeen(provider=self.name, nodes=seen(nodes), asked=asked))

    async def _ask_prices(self) -> None:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                offers = await self._provider.offers()
        except (ProviderError, TimeoutError) as error:
            self._failed("offers", error)
            return
        self.fault = ""
        self.priced = self._loop.clock.now().wall
        self._loop.post(OffersSeen(provider=self.name, offers=tuple(offers)))

    def _failed(self, what: str, error: Exception) -> None:
        self.fault = f"{what}: {error}" if str(error) else f"{what}: no answer in {CALL_SECONDS:.0f} s"
        log.warning("provider.failed", provider=self.name, call=what, error=str(error))

    async def _watch_hints(self) -> None:
        async for notice in self._provider.events():
            self._hint(notice)

    def _hint(self, notice: Notice) -> None:
        if notice.kind is NoticeKind.PRICES:
            self.ask_prices()
            return
        self.look()
        for message in noticed(self._loop.state, self.name, notice):
            self._loop.post(message)
