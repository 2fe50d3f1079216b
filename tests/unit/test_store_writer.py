"""The writer's thread: what it promises to those who wait, and what it does when the disk does not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsched.scheduler.core.market import Quote
from dsched.scheduler.core.snapshot import Progress
from dsched.scheduler.core.units import HOUR, Instant, MicroUsdPerHour
from dsched.scheduler.store import lastvalue, writer
from dsched.scheduler.store.database import DATABASE, LOCK, connect_memory, hold, linked
from dsched.scheduler.store.errors import Locked, StoreFailed
from dsched.scheduler.store.writer import Store
from tests.support.events import attempted, changed, submitted


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path)
    yield opened
    opened.close()


async def test_every_waiter_gets_the_place_of_its_own_last_event(store: Store) -> None:
    futures = [store.commit([submitted(f"j{n}"), changed(f"j{n}", reason="r")]) for n in range(600)]
    assert await asyncio.gather(*futures) == [2 * n + 2 for n in range(600)]
    assert store.seq == 1_200


async def test_an_answered_commit_is_there_for_every_reader(store: Store) -> None:
    await store.commit([submitted("j1")])
    assert store.queries.job("j1") is not None


async def test_a_waiter_that_gave_up_does_not_stop_the_others(store: Store) -> None:
    gone, stays = store.commit([submitted("j1")]), store.commit([submitted("j2")])
    gone.cancel()
    assert await stays == 2


async def test_after_a_failure_nothing_more_is_taken(tmp_path: Path) -> None:
    told: list[StoreFailed] = []
    store = Store.open(tmp_path, on_failure=told.append)
    await store.commit([submitted("j1"), attempted("j1", 1)])
    bad, after = store.commit([attempted("j1", 2)]), store.commit([submitted("j2")])
    with pytest.raises(StoreFailed, match="rule of the tables"):
        await bad
    with pytest.raises(StoreFailed):
        await after
    with pytest.raises(StoreFailed):
        store.commit([submitted("j3")])
    with pytest.raises(StoreFailed):
        store.put_progress({"j1": Progress(step=1)})
    store.close()
    assert told == [store.failure]


async def test_a_backlog_beyond_its_bound_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BACKLOG_MAX", 0)
    with pytest.raises(StoreFailed, match="does not keep up"):
        store.commit([submitted("j1")])


async def test_close_writes_what_waits(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    waiting = [store.commit([submitted(f"j{n}")]) for n in range(100)]
    store.put_progress({"j1": Progress(step=7)})
    store.close()
    assert max(await asyncio.gather(*waiting)) == 100
    again = Store.open(tmp_path)
    assert again.load().progress == {"j1": Progress(step=7)}
    again.close()


async def test_meta_is_durable_when_answered(store: Store) -> None:
    await store.put_meta("colour", "red")
    await store.put_meta("colour", "blue")
    assert store.queries.meta("colour") == "blue"
    assert store.queries.meta("shape") is None


def quote(price: int, at: int) -> Quote:
    return Quote(price=MicroUsdPerHour(price), at=Instant(at), source="replay")


def test_the_history_is_a_staircase_of_the_journal(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    for price, at in ((5, 1), (5, 2), (7, 3), (7, 4), (6, 8)):
        store.put_quotes({"p": quote(price, at)})
    store.close()
    again = Store.open(tmp_path)
    assert again.queries.quotes() == {"p": quote(6, 8)}
    history = again.queries.history(["p", "q"], now=Instant(8), span=8, buckets=8)  # type: ignore[arg-type]
    assert history == {"p": [5, 5, 7, 7, 7, 7, 7, 6], "q": [None] * 8}
    later = again.queries.history(["p"], now=Instant(80), span=8, buckets=2)  # type: ignore[arg-type]
    assert later == {"p": [6, 6]}
    again.close()


def test_late_news_does_not_overrule_newer() -> None:
    connection = connect_memory()
    for late in (quote(6, 8), quote(9, 2)):
        lastvalue.write(connection, {("p", late.at): late}, {})
    assert connection.execute("SELECT price, at FROM quote").fetchall() == [(6, 8)]
    assert connection.execute("SELECT price, at FROM quote_journal").fetchall() == [(6, 8)]
    connection.close()


def test_old_prices_are_forgotten_but_the_one_that_still_held(tmp_path: Path) -> None:
    for start, prices in ((0, (1, 2, 3)), (lastvalue.JOURNAL_AGE + 2 * HOUR, (4,))):
        store = Store.open(tmp_path)
        for number, price in enumerate(prices):
            store.put_quotes({"p": quote(price, start + number)})
        store.close()
    again = Store.open(tmp_path)
    with again.queries.connection() as connection:
        kept = connection.execute("SELECT price FROM quote_journal ORDER BY at").fetchall()
    assert kept == [(3,), (4,)]
    again.close()


def test_values_beyond_the_bound_are_dropped_not_hoarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lastvalue, "WAITING_MAX", 3)
    pending = lastvalue.Pending()
    assert pending.put_quotes({f"p{n}": quote(1, n) for n in range(9)})
    assert pending.put_progress({f"j{n}": Progress() for n in range(9)}) is False
    quotes, progress = pending.take(0.0)
    assert (len(quotes), len(progress)) == (3, 3)


def test_a_second_daemon_is_told_who_holds_the_directory(store: Store) -> None:
    with pytest.raises(Locked, match=rf"process {os.getpid()} already runs .*kill {os.getpid()}.*DSCHED_STATE"):
        Store.open(store.path.parent)


def test_a_lock_file_left_by_a_dead_process_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("99999999\nrubbish that is longer than a pid")
    with hold(tmp_path):
        assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"
    hold(tmp_path).release()


def test_the_directory_is_free_again_after_a_start_that_failed(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"rubbish" * 1_000)
    with pytest.raises(Exception, match="damaged"):
        Store.open(tmp_path)
    hold(tmp_path).release()


def test_nobody_else_may_read_the_database(store: Store) -> None:
    assert store.path.stat().st_mode & 0o777 == 0o600


def test_the_linked_sqlite_says_whether_it_is_safe() -> None:
    assert linked().module == "pysqlite3"
    assert linked().safe
