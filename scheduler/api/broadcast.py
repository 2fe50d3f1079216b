"""One writer, many readers: committed events to every subscriber, each with a bounded backlog of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from dsched.scheduler.api.ports import Closed, Committed, Lagged

BACKLOG_MAX: Final = 8_192  # events per subscriber: some seconds of a busy daemon; then it reads the store instead
RECENT_MAX: Final = 100  # events that a new watcher gets at once: a screen of them


class Broadcast:
    """A Feed. Everything happens in the loop's thread; `publish` never waits."""

    def __init__(self, last_seq: int = 0, recent: Iterable[Committed] = ()) -> None:
        self.last_seq = last_seq
        self.recent = deque(recent, maxlen=RECENT_MAX)
        self._taps: set[Tap] = set()
        self._closed = False

    def publish(self, batch: Sequence[Committed]) -> None:
        """Events that are durable now, in order, without gaps."""
        if not batch:
            return
        self.last_seq = batch[-1][0]
        self.recent.extend(batch)
        for tap in self._taps:
            tap.offer(batch)

    def subscribe(self) -> Tap:
        tap = Tap(self)
        if self._closed:
            tap.end()
        else:
            self._taps.add(tap)
        return tap

    def drop(self, tap: Tap) -> None:
        self._taps.discard(tap)

    def close(self) -> None:
        """No more events: every subscriber is told."""
        self._closed = True
        for tap in self._taps:
            tap.end()
        self._taps.clear()


class Tap:
    """One subscriber's place. One task reads it."""

    def __init__(self, source: Broadcast) -> None:
        self._source = source
        self._pending: list[Committed] = []
        self._wake = asyncio.Event()
        self._lagged = self._closed = False

    def offer(self, batch: Sequence[Committed]) -> None:
        if len(self._pending) + len(batch) > BACKLOG_MAX:
            self._pending.clear()
            self._lagged = True
        if not self._lagged:
            self._pending.extend(batch)
        self._wake.set()

    def end(self) -> None:
        self._closed = True
        self._wake.set()

    async def next(self) -> Sequence[Committed]:
        await self._wake.wait()
        if self._lagged:
            raise Lagged
        if self._pending:
            batch, self._pending = self._pending, []
            if not self._closed:
                self._wake.clear()
            return batch
        raise Closed

    def close(self) -> None:
        self._source.drop(self)
