"""What is for sale and for how much, kept fresh: the price list, machine types, reservations and advice.

A refresh that fails leaves the old prices with their old age. The first one is waited for, later ones too, but never
longer than the caller does: the work goes on in its thread and the next caller finds it done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from dsched.providers.base import Auth, Invalid, Known, NothingKnown, ProviderError, Throttled
from dsched.providers.gcp.client import Client
from dsched.providers.gcp.offers import Insight, chosen, insight, offers, pattern
from dsched.providers.gcp.prices import Book, Usage, book
from dsched.providers.gcp.rows import MachineType
from dsched.providers.gcp.settings import Settings
from dsched.scheduler.core.market import Market, Offer, Pool
from dsched.scheduler.core.units import HOUR, Instant, MicroUsdPerHour, Millis

PATIENCE_S: Final = 5.0  # a launch does not wait longer for newer prices than it has
ADVICE_EVERY: Final = Millis(HOUR)
_USAGE: Final = {Market.SPOT: Usage.SPOT, Market.ON_DEMAND: Usage.ON_DEMAND}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Board:
    """One complete reading of types and prices."""

    kinds: tuple[MachineType, ...]
    book: Book

    def gpus(self) -> dict[str, int]:
        """Of each machine type."""
        return {kind.name: kind.chips for kind in self.kinds}

    def price(self, zone: str, shape: str, usage: Usage) -> MicroUsdPerHour | None:
        """Of one machine, also under a commitment; None: not known."""
        for kind in self.kinds:
            if (kind.zone, kind.name) == (zone, shape):
                quote = self.book.quote(kind, usage)
                return None if quote is None else quote.price
        return None


class PriceBoard:
    """The market as it was read last. `run` carries a blocking call to a thread."""

    def __init__(
        self, settings: Settings, client: Client, run: Callable[..., Awaitable[Any]], known: Known | None = None
    ) -> None:
        self._settings, self._client, self._run, self._known = settings, client, run, known or NothingKnown()
        self._board: Board | None = None
        self._reading: asyncio.Task[Board] | None = None
        self._advising: asyncio.Task[None] | None = None
        self._insights: dict[tuple[str, str], Insight] = {}
        self.error = ""  # why the last reading failed
        self._advised = Instant(0)

    async def offers(self, notice: Millis) -> list[Offer]:
        board = await self.board()
        held = await self._run(self._client.reservations)
        self._advise(board)
        return offers(board.kinds, board.book, held, self._insights, notice, _now())

    async def price(self, pool: Pool) -> MicroUsdPerHour | None:
        """By a list that is as new as the settings ask for, or the newest there is."""
        board = await self.board()
        return board.price(pool.zone, pool.shape, _USAGE[pool.market])

    async def board(self) -> Board:
        """Raises ProviderError only while nothing was ever read."""
        board = self._board
        if board is not None and _now() - board.book.at < self._settings.prices_seconds * 1_000:
            return board
        if self._reading is None or self._reading.done():
            if self._reading is not None and not self._reading.cancelled():
                self._reading.exception()  # nobody may have waited for it; `error` has it
            self._reading = asyncio.get_running_loop().create_task(self._read())
        await asyncio.wait({self._reading}, timeout=None if board is None else PATIENCE_S)
        if board is not None and not self._reading.done():
            return board
        try:
            return await asyncio.shield(self._reading)
        except ProviderError as error:
            if board is None:
                raise
            log.warning("gcp.prices", error=str(error), age_s=round((_now() - board.book.at) / 1_000))
            return board

    async def advised(self) -> None:
        """Wait for advice that is under way."""
        if self._advising is not None:
            await self._advising

    async def close(self) -> None:
        for task in (self._reading, self._advising):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _read(self) -> Board:
        """Its outcome is told in `error` too: who asked may have lost patience."""
        try:
            self._board = await self._complete()
        except ProviderError as error:
            self.error = str(error)
            raise
        return self._board

    async def _complete(self) -> Board:
        """Without a price list the first board is of what was imported, and the list is asked for again soon."""
        settings, began = self._settings, _now()
        asked = pattern(settings.shapes, tpus=settings.tpus)
        kinds = chosen(await self._run(self._client.machine_types, asked), settings.shapes, tpus=settings.tpus)
        try:
            rates = await self._run(lambda: book(self._client.skus(), settings.regions, began))
        except ProviderError as error:
            bare = Book({}, Instant(0), self._known)
            if self._board is not None or not any(bare.quote(kind, usage) for kind in kinds for usage in Usage):
                raise
            self.error = str(error)
            return Board(tuple(kinds), bare)
        self.error = ""
        return Board(tuple(kinds), replace(rates, known=self._known))

    def _advise(self, board: Board) -> None:
        """In the background: hundreds of calls that no plan has to wait for."""
        due = _now() - self._advised >= ADVICE_EVERY
        if self._settings.advice and due and (self._advising is None or self._advising.done()):
            self._advised = _now()
            spots = [kind for kind in board.kinds if board.price(kind.zone, kind.name, Usage.SPOT) is not None]
            self._advising = asyncio.get_running_loop().create_task(self._ask(spots))

    async def _ask(self, kinds: list[MachineType]) -> None:
        """One refusal of a shape is that shape's; a missing permission or a throttle ends the round."""
        for kind in kinds:
            try:
                self._insights[kind.zone, kind.name] = await self._insight(kind)
            except Invalid:
                self._insights.pop((kind.zone, kind.name), None)
            except (Auth, Throttled) as error:
                log.warning("gcp.advice", error=str(error))
                return
            except ProviderError as error:
                log.warning("gcp.advice", shape=kind.name, zone=kind.zone, error=str(error))

    async def _insight(self, kind: MachineType) -> Insight:
        preemptions = await self._run(self._client.preemptions, kind.zone, kind.name)
        score, uptime = await self._run(self._client.capacity, kind.zone, kind.name)
        return insight(score, uptime, preemptions)


def _now() -> Instant:
    return Instant(time.time_ns() // 1_000_000)
