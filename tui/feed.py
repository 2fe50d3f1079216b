"""Keeps the client's copy true: a snapshot, then deltas, and again from the start whenever the line was lost.

It never blocks the loop and never queues: what the app has not taken yet is merged in `news`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

from textual.message import Message

from dsched.scheduler.wire.api import Feed as Rows
from dsched.tui.board import News
from dsched.tui.messages import Fed, HistoryCame, Linked, MoneyCame
from dsched.tui.source import Source, SourceError

RETRY_S: Final = (0.2, 0.5, 1.0, 2.0, 3.0)  # then the last again and again: a person waits for it
STALE_S: Final = 3.0  # silence that a person should know of; the daemon speaks at least once a second
LOST_S: Final = 15.0  # silence after which the line is dead, whatever the kernel says of it
MONEY_S: Final = 2.0  # how often budgets and savings are asked for; the answer's time is the latency shown
PACE_S: Final = 0.2  # between two batches of news for the app: eyes need no more, and a paint costs more than a row
HISTORY_S: Final = 30.0  # the day's prices move one bucket an hour


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The connection as the status line shows it."""

    state: Literal["connecting", "live", "lost"] = "connecting"
    heard: float | None = None  # monotonic seconds of the last sign of life
    latency_ms: float | None = None
    why: str = ""
    remedy: str = ""

    def silence(self, now: float) -> float:
        return 0.0 if self.heard is None else max(0.0, now - self.heard)

    def stale(self, now: float) -> bool:
        return self.heard is not None and (self.state != "live" or self.silence(now) > STALE_S)


class Feed:
    def __init__(
        self,
        source: Source,
        tell: Callable[[Message], object],
        *,
        clock: Callable[[], float] = time.monotonic,
        pace: float = PACE_S,
    ) -> None:
        self.news = News()
        self._pace, self._next = pace, 0.0
        self.link = Link()
        self._source, self._tell, self._clock = source, tell, clock
        self._told = False
        self._tries = 0

    def take(self) -> News:
        """What came since the last call."""
        news, self.news, self._told = self.news, News(), False
        return news

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self._watch()
                why, remedy = "the daemon ended the stream", ""
            except SourceError as error:
                why, remedy = error.message, error.hint
            except TimeoutError:
                why, remedy = f"nothing heard for {LOST_S:.0f} s", "dsched doctor"
            self._link(replace(self.link, state="lost", why=why, remedy=remedy, latency_ms=None))
            await asyncio.sleep(RETRY_S[min(self._tries, len(RETRY_S) - 1)])
            self._tries += 1

    async def _watch(self) -> None:
        """One connection, until it ends."""
        asking = asyncio.create_task(self._ask())
        stream = self._source.feed()
        try:
            while True:
                async with asyncio.timeout(LOST_S):
                    kind, rows = await anext(stream)
                self._heard()
                if rows is not None:
                    self._add(rows, snapshot=kind == "snapshot")
        except StopAsyncIteration:
            return
        finally:
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
            if (close := getattr(stream, "aclose", None)) is not None:
                await close()

    def _add(self, rows: Rows, *, snapshot: bool) -> None:
        self.news.add(rows, snapshot=snapshot)
        if snapshot:
            self._tries = 0
        if not self._told:
            self._told = True
            self._tell_soon()

    def _tell_soon(self) -> None:
        """At once where the app had a pause, else when it has had one."""
        loop = asyncio.get_running_loop()
        if (rest := self._next - loop.time()) > 0:
            loop.call_later(rest, self._tell_soon)
            return
        self._next = loop.time() + self._pace
        self._tell(Fed())

    def _heard(self) -> None:
        was = self.link
        self.link = replace(was, state="live", heard=self._clock(), why="", remedy="")
        if was.state != "live":
            self._tell(Linked())

    def _link(self, link: Link) -> None:
        self.link = link
        self._tell(Linked())

    async def _ask(self) -> None:
        """What the feed does not carry. A failure here is no news: the feed itself tells when the daemon is gone."""
        history_due = self._clock()
        while True:
            with contextlib.suppress(SourceError):
                start = self._clock()
                money = await self._source.money()
                self.link = replace(self.link, latency_ms=(self._clock() - start) * 1000)
                self._tell(MoneyCame(money))
                if self._clock() >= history_due:
                    history_due = self._clock() + HISTORY_S
                    self._tell(HistoryCame(await self._source.offers()))
            await asyncio.sleep(MONEY_S)
