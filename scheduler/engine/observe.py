"""Look at a provider: its machines and its offers, when something hints at a change and every so often anyway.

An error is never an empty list: when a provider does not answer, the core is told nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from dsched.providers.base import (
    Ailing,
    Committed,
    Doctored,
    Finding,
    Limited,
    Notice,
    NoticeKind,
    Provider,
    ProviderError,
)
from dsched.scheduler.core.commitment import Contract
from dsched.scheduler.core.message import NodesSeen, OffersSeen, QuotasSeen
from dsched.scheduler.core.quota import Quota
from dsched.scheduler.core.units import MINUTE, Instant, Millis
from dsched.scheduler.engine.loop import Loop
from dsched.scheduler.engine.translate import noticed, seen
from dsched.scheduler.log import log

CALL_SECONDS: Final = 30.0  # beyond that the answer would be stale
EXAMINE_SECONDS: Final = 12.0  # within what a command waits for the daemon
LIMITS_EVERY: Final = Millis(
    15 * MINUTE
)  # people raise quotas in days; others of the account start machines at any time
LIMITS_AGAIN: Final = Millis(5 * MINUTE)  # after a failure


class Observer:
    """One per provider. `look` and `ask_prices` only set a flag: many hints make one call."""

    def __init__(self, provider: Provider, loop: Loop) -> None:
        self.name = provider.name
        self.fault = "not asked yet"  # why the last call failed; "" when it did not
        self.priced: Instant | None = None  # wall: last good answer of offers()
        self.quotas: tuple[Quota, ...] = ()  # as they were told last
        self.limits_fault = ""  # why quotas could not be asked, last time
        self.contracts: tuple[Contract, ...] = ()  # what has been promised to the provider
        self._limits_due = Instant(0)  # wall
        self._provider, self._loop = provider, loop
        self._nodes, self._prices = asyncio.Event(), asyncio.Event()

    @property
    def ailing(self) -> Mapping[str, str]:
        """Parts of the cloud that do not answer while others do, and why."""
        return self._provider.ailing if isinstance(self._provider, Ailing) else {}

    async def examine(self) -> list[Finding]:
        """What the provider finds when it looks at itself; nothing where it cannot. Raises nothing of a cloud's."""
        if not isinstance(self._provider, Doctored):
            return []
        try:
            async with asyncio.timeout(EXAMINE_SECONDS):
                return await self._provider.doctor()
        except (ProviderError, TimeoutError) as error:
            return [Finding("check-up", "fail", str(error) or f"not over in {EXAMINE_SECONDS:.0f} s", "dsched info")]

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
        """Ask for all now: used once at start, so that the first plan sees a market and what may be had of it."""
        await self._ask_prices()
        await self._ask_nodes()
        if not self.fault:  # who does not answer is not waited for a third time
            await self._ask_limits()

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
            await self._ask_limits()

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

    async def _ask_limits(self) -> None:
        """When it is time. One that fails leaves the old ones standing: a launch beyond them is refused, no more."""
        now = self._loop.clock.now().wall
        if not isinstance(self._provider, Limited) or now < self._limits_due:
            return
        self._limits_due = Instant(now + LIMITS_AGAIN)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                quotas = tuple(await self._provider.limits())
        except (ProviderError, TimeoutError) as error:
            self.limits_fault = str(error) or f"no answer in {CALL_SECONDS:.0f} s"
            log.warning("provider.failed", provider=self.name, call="limits", error=self.limits_fault)
            return
        self._limits_due, self.limits_fault, self.quotas = Instant(now + LIMITS_EVERY), "", quotas
        self._loop.post(QuotasSeen(provider=self.name, quotas=quotas))
        await self._ask_contracts()

    async def _ask_contracts(self) -> None:
        if not isinstance(self._provider, Committed):
            return
        try:
            async with asyncio.timeout(CALL_SECONDS):
                self.contracts = tuple(await self._provider.commitments())
        except (ProviderError, TimeoutError) as error:
            log.warning("provider.failed", provider=self.name, call="commitments", error=str(error))

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
        if notice.kind is NoticeKind.INTERRUPT and notice.ref is not None:
            log.info("hint", provider=self.name, kind=str(notice.kind), machine=notice.ref.id)
        self.look()
        for message in noticed(self._loop.state, self.name, notice):
            self._loop.post(message)
