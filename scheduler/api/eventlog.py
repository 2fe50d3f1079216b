"""The event log as a stream: history from the store, then live, without a gap and without a double."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from dsched.scheduler.api.fleet import event_row
from dsched.scheduler.api.ports import Closed, Committed, Feed, Lagged, Queries, Subscription
from dsched.scheduler.api.sse import ALIVE, KEEP_ALIVE_S, frame
from dsched.scheduler.core.event import Event

FRAMES_MAX: Final = 8_192  # encoded events kept: every subscriber within its backlog finds what another one encoded
PAGE: Final = 500  # events per read of the store: a few milliseconds
_encode: Final = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Frames:
    """Events as server-sent frames, encoded once for all subscribers."""

    _kept: dict[int, bytes] = field(default_factory=dict)

    def of(self, seq: int, event: Event) -> bytes:
        made = self._kept.get(seq)
        if made is None:
            made = self._kept[seq] = frame(_encode(event_row(seq, event)), seq=seq)
            if len(self._kept) > FRAMES_MAX:
                del self._kept[next(iter(self._kept))]
        return made


async def follow(
    feed: Feed, queries: Queries, frames: Frames, after: int | None, job: str
) -> AsyncGenerator[bytes, None]:
    """Frames of every event after `after`; None begins with what comes next. Ends when the feed closes.

    A subscriber too slow for the live events is not cut off: it reads the store again and catches up.
    """
    sent = feed.last_seq if after is None else after
    yield ALIVE  # the headers and the fact that we listen reach the client before the first event
    while True:
        live = feed.subscribe()
        try:
            upto = feed.last_seq
            while sent < upto:
                page, sent = await _stored(queries, frames, sent, upto, job)
                if page:
                    yield page
            while True:
                batch = await heard(live)
                if batch is None:
                    yield ALIVE
                    continue
                fresh = [item for item in batch if item[0] > sent]
                sent = max(sent, batch[-1][0])
                page = b"".join(frames.of(seq, event) for seq, event in fresh if job in ("", event.job))
                if page:
                    yield page
        except Lagged:
            continue
        except Closed:
            return
        finally:
            live.close()


async def _stored(queries: Queries, frames: Frames, after: int, upto: int, job: str) -> tuple[bytes, int]:
    """One page of stored events in (after, upto], and the seq that it reaches."""
    page = await asyncio.to_thread(queries.events, after, limit=PAGE, job=job)
    wanted = [item for item in page if item.seq <= upto]
    reached = wanted[-1].seq if len(wanted) == PAGE else upto
    return b"".join(frames.of(item.seq, item.event) for item in wanted), reached


async def heard(live: Subscription, within_s: float = KEEP_ALIVE_S) -> Sequence[Committed] | None:
    """The next batch, or None when nothing came for as long as a connection may be silent."""
    try:
        async with asyncio.timeout(within_s):
            return await live.next()
    except TimeoutError:
        return None
