"""The stream of events where store and feed overlap, and the sums that live on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from dsched.scheduler.api.books import Books
from dsched.scheduler.api.broadcast import Broadcast
from dsched.scheduler.api.eventlog import Frames, follow
from dsched.scheduler.core.event import Change, Event
from dsched.scheduler.core.snapshot import LedgerEntry
from dsched.scheduler.core.units import Charge, Instant, MicroUsdPerHour, Moment
from dsched.scheduler.store.queries import Queries
from dsched.scheduler.store.writer import Store

NOW = Moment(Instant(1), Instant(1))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


async def test_what_the_store_already_told_is_not_told_again_by_the_feed(store: Store) -> None:
    """A client may have read durable events that the feed is yet to publish."""
    feed = Broadcast(last_seq=3)
    stream = follow(feed, store.queries, Frames(), 5, "")
    await anext(stream)
    event = Event(kind="x", at=NOW)
    coming = asyncio.ensure_future(anext(stream))
    while not feed._taps:
        await asyncio.sleep(0)
    feed.publish([(seq, event) for seq in range(4, 8)])
    made = await coming
    assert [line for line in made.splitlines() if line.startswith(b"id:")] == [b"id: 6", b"id: 7"]
    await stream.aclose()
    store.close()


def entry(start: int) -> LedgerEntry:
    return LedgerEntry(
        node="n.0",
        job="j1",
        budget="default",
        pool="p",
        kind="compute",
        rate=MicroUsdPerHour(1),
        on_demand=None,
        start=Instant(start),
        end=Instant(start + 10),
        source="test",
        quoted=Instant(start),
        owed=Charge(10),
        baseline=Charge(30),
    )


def booked(made: LedgerEntry) -> Event:
    values = {field.name: getattr(made, field.name) for field in fields(made)}
    return Event(
        kind="ledger.booked", at=NOW, changes=(Change("ledger", f"n.0/{made.start}/compute", values, new=True),)
    )


class Reading(Queries):
    """The store's reads, with something happening while they run."""

    def meanwhile(self, act: Callable[[], object]) -> Reading:
        self._act = act
        return self

    def ledger(self, **asked: object) -> list[LedgerEntry]:  # type: ignore[override]
        found = super().ledger()
        self._act()
        return found


async def test_what_is_booked_while_the_ledger_is_read_counts_once(store: Store) -> None:
    books, first, second, third = Books(), booked(entry(0)), booked(entry(10)), booked(entry(20))
    for event in (first, second):
        await store.commit([event])
    # the second is durable and read, but heard of only now; the third becomes durable behind the read
    queries = Reading(store.path).meanwhile(lambda: books.hear([(2, second), (store.commit_sync([third]), third)]))
    assert await books.sums(queries) == (30, 90)
    books.hear([(4, booked(entry(30)))])
    assert await books.sums(queries) == (40, 120)
    queries.close()
    store.close()


async def test_books_that_missed_events_are_read_again(store: Store) -> None:
    books = Books()
    assert await books.sums(store.queries) == (0, 0)
    await store.commit([booked(entry(0))])
    books.forget()
    assert await books.sums(store.queries) == (10, 30)
    store.close()
