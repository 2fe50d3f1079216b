"""What watchers see: a snapshot, then deltas with the latest row of whatever changed, at most ten a second.

One task collects and encodes for all watchers together, and only while there are any. A watcher that does not keep
up is told to start again and gets a new snapshot.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

import msgspec

from dsched.scheduler.api.fleet import event_row, offer_row
from dsched.scheduler.api.ports import Closed, Committed, Control, Feed, Lagged, Subscription
from dsched.scheduler.api.rows import Held, JobRows, held_nodes, shown
from dsched.scheduler.api.sse import ALIVE, KEEP_ALIVE_S, frame
from dsched.scheduler.core.market import Offer
from dsched.scheduler.core.snapshot import Job, PoolMemory

GAP_S: Final = 0.1  # between two deltas: nobody reads faster
LIVE_S: Final = 1.0  # burn, spend and progress of what runs are shown anew so often
PENDING_MAX: Final = 30  # deltas that wait for one watcher: three seconds, then a snapshot is cheaper
EVENTS_MAX: Final = 500  # events in one delta; more than a screen holds, the rest is in /v1/events
CHUNK: Final = 256  # rows encoded before others get their turn: about a millisecond
_encode: Final = msgspec.json.Encoder().encode
_RESYNC: Final = frame(b"{}", event="resync")


@dataclass(slots=True, eq=False)
class Watcher:
    """One connection's mailbox."""

    frames: deque[bytes] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    lost: bool = False
    ended: bool = False

    def put(self, made: bytes) -> None:
        if len(self.frames) >= PENDING_MAX:
            self.lose()
        if not self.lost:
            self.frames.append(made)
        self.wake.set()

    def lose(self) -> None:
        self.frames.clear()
        self.lost = True
        self.wake.set()

    def end(self) -> None:
        self.ended = True
        self.wake.set()


class Watch:
    """The feed of everybody who looks."""

    def __init__(self, control: Control, feed: Feed, rows: JobRows) -> None:
        self._control, self._feed, self._rows = control, feed, rows
        self._watchers: set[Watcher] = set()
        self._task: asyncio.Task[None] | None = None
        self._sent = 0  # events up to here went out in deltas
        self._offers: dict[str, tuple[Offer, PoolMemory | None]] = {}  # as last sent
        self._ended: dict[str, Job] = {}  # ended jobs that watchers still show

    async def follow(self) -> AsyncGenerator[bytes, None]:
        """Frames for one watcher, until the daemon goes down."""
        watcher = Watcher()
        self._join(watcher)
        try:
            yield await self._snapshot()
            while True:
                if not await _woken(watcher):
                    yield ALIVE
                elif watcher.lost:
                    yield _RESYNC
                    watcher.lost = False
                    yield await self._snapshot()
                elif watcher.frames:
                    made = b"".join(watcher.frames)
                    watcher.frames.clear()
                    yield made
                elif watcher.ended:
                    return
        finally:
            self._leave(watcher)

    def close(self) -> None:
        """The daemon goes down: every watcher's stream ends."""
        for watcher in self._watchers:
            watcher.end()

    def _join(self, watcher: Watcher) -> None:
        self._watchers.add(watcher)
        if self._task is None:
            self._moved(all_new=True)
            self._start()

    def _start(self) -> None:
        # Subscribed before any snapshot is taken: what changes meanwhile comes as a delta after it.
        self._sent = self._feed.last_seq
        self._task = asyncio.create_task(self._collect(self._feed.subscribe()), name="watch")

    def _leave(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)
        if not self._watchers and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _collect(self, live: Subscription) -> None:
        """Gather what changed, and send it to all when the gap is over."""
        refresh = monotonic() + LIVE_S
        try:
            while True:
                batch = await _within(live, refresh - monotonic())
                began = monotonic()
                due = began >= refresh
                changed = self._touched(batch)
                if due:
                    refresh = began + LIVE_S
                    changed |= self._control.state.active
                made = await self._delta(changed, self._moved(all_new=due), batch)
                self._sent = batch[-1][0] if batch else self._sent
                for watcher in self._watchers:
                    watcher.put(made)
                await asyncio.sleep(GAP_S)
        except Lagged:
            for watcher in self._watchers:
                watcher.lose()
            self._start()
        except Closed:
            pass
        finally:
            live.close()
            if self._task is asyncio.current_task():
                self._task = None
                for watcher in self._watchers:
                    watcher.end()

    def _touched(self, batch: Sequence[Committed]) -> set[str]:
        """The jobs that these events are about."""
        state, jobs = self._control.state, set()
        for _, event in batch:
            jobs.add(event.job)
            for change in event.changes:
                if change.table == "job":
                    jobs.add(change.key)
                elif change.table == "node" and change.key in state.nodes:
                    jobs.add(state.nodes[change.key].job)
        jobs.discard("")
        return jobs

    def _moved(self, *, all_new: bool) -> list[Offer]:
        """Offers that read differently than when they were last sent; with `all_new` also those only quoted anew."""
        state, moved = self._control.state, []
        for name, offer in state.offers.items():
            memory = state.pools.get(name)
            old, cold = self._offers.get(name, (None, None))
            if old is offer and cold is memory:
                continue
            if all_new or old is None or _looks(old, cold) != _looks(offer, memory):
                self._offers[name] = (offer, memory)
                moved.append(offer)
        return moved

    async def _delta(self, changed: Iterable[str], moved: Sequence[Offer], batch: Sequence[Committed]) -> bytes:
        state, now = self._control.state, self._control.now()
        jobs = [state.jobs[name] for name in changed if name in state.jobs]
        gone = [name for name in changed if name not in state.jobs] + self._expired()
        self._ended.update((job.id, job) for job in jobs if job.ended is not None)
        head = {
            "seq": self._feed.last_seq,
            "gone": gone,
            "offers": [offer_row(state, offer, now) for offer in moved],
            "events": [event_row(seq, event) for seq, event in batch[-EVENTS_MAX:]],
            "health": self._control.health(),
        }
        return frame(_whole(head, await self._encoded(jobs)), event="delta")

    async def _snapshot(self) -> bytes:
        state, now = self._control.state, self._control.now()
        jobs = [job for job in state.jobs.values() if shown(state, job, now)]
        self._ended.update((job.id, job) for job in jobs if job.ended is not None)
        head = {
            "seq": self._feed.last_seq,
            "gone": [],
            "offers": [offer_row(state, offer, now) for offer in state.offers.values()],
            "events": [event_row(seq, event) for seq, event in self._feed.recent if seq <= self._sent],
            "health": self._control.health(),
        }
        return frame(_whole(head, await self._encoded(jobs)), event="snapshot")

    async def _encoded(self, jobs: Sequence[Job]) -> list[bytes]:
        """Rows in chunks, so that ten thousand of them hold nobody up."""
        return await encoded_rows(self._control, self._rows, jobs)

    def _expired(self) -> list[str]:
        """Ended jobs that the default list has dropped since."""
        state, now = self._control.state, self._control.now()
        gone = [name for name, job in self._ended.items() if name not in state.jobs or not shown(state, job, now)]
        for name in gone:
            del self._ended[name]
        return gone


def _looks(offer: Offer, memory: PoolMemory | None) -> tuple[object, ...]:
    """What a reader of the market would notice."""
    price = offer.quote.price if offer.quote is not None else None
    cool = (memory.cool_until, memory.why) if memory is not None else None
    return price, offer.on_demand, offer.free, offer.hazard, cool


async def encoded_rows(control: Control, rows: JobRows, jobs: Sequence[Job]) -> list[bytes]:
    """Every job's row, encoded; the loop gets a breath between chunks, and each chunk is true at its own moment."""
    made: list[bytes] = []
    for start in range(0, len(jobs), CHUNK):
        if start:
            await asyncio.sleep(0)
        state, now = control.state, control.now()
        held: Held = held_nodes(state)
        made += [rows.encoded(state, job, now, held) for job in jobs[start : start + CHUNK]]
    return made


def _whole(head: dict[str, object], jobs: Sequence[bytes]) -> bytes:
    """The head's JSON with the encoded rows put in as "jobs"."""
    return b"%s,%s[%s]}" % (_encode(head)[:-1], b'"jobs":', b",".join(jobs))


async def _woken(watcher: Watcher) -> bool:
    try:
        async with asyncio.timeout(KEEP_ALIVE_S):
            await watcher.wake.wait()
    except TimeoutError:
        return False
    if not watcher.ended:
        watcher.wake.clear()
    return True


async def _within(live: Subscription, seconds: float) -> Sequence[Committed]:
    """The next batch, or none when the time is up."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            return await live.next()
    except TimeoutError:
        return ()
