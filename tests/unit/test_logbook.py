"""Job logs: by offset, within a bound, never outside their folder."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsched.scheduler.store.logbook import BadName, LogBook
from dsched.scheduler.store.shelf import Shelf


@pytest.fixture
def book(tmp_path: Path) -> Iterator[LogBook]:
    book = LogBook(tmp_path / "logs", job_max=100, piece_max=40)
    yield book
    book.close()


async def test_a_repeated_chunk_is_taken_once(book: LogBook) -> None:
    assert await book.append("j1", 1, 0, 0, b"hello ") == 6
    assert await book.append("j1", 1, 0, 0, b"hello ") == 6
    assert await book.append("j1", 1, 0, 3, b"lo world") == 11
    assert (await book.read("j1", 1, 0, 0, 100)).data == b"hello world"


async def test_a_gap_is_refused_by_answering_what_is_held(book: LogBook) -> None:
    await book.append("j1", 1, 0, 0, b"0123")
    assert await book.append("j1", 1, 0, 9, b"9") == 4
    assert await book.append("j1", 2, 0, 5, b"x") == 0
    assert (await book.read("j1", 1, 0, 0, 100)).data == b"0123"


async def test_a_new_daemon_goes_on_where_the_old_one_stopped(book: LogBook, tmp_path: Path) -> None:
    await book.append("j1", 1, 0, 0, b"a" * 50)
    await book.append("j1", 1, 0, 50, b"b" * 20)
    again = LogBook(tmp_path / "logs", job_max=100, piece_max=40)
    assert await again.append("j1", 1, 0, 60, b"b" * 10 + b"c") == 71
    assert (await again.read("j1", 1, 0, 45, 10)).data == b"a" * 5, "a read ends with its piece"
    assert (await again.read("j1", 1, 0, 50, 100)).data == b"b" * 20 + b"c"
    again.close()


async def test_the_oldest_generation_is_dropped_first(book: LogBook) -> None:
    for generation in (1, 2, 3):
        await book.append("j1", generation, 0, 0, b"%d" % generation * 45)
    assert (await book.read("j1", 1, 0, 0, 100)).data == b""
    assert (await book.read("j1", 2, 0, 0, 100)).data == b"2" * 45
    assert (await book.read("j1", 3, 0, 0, 100)).data == b"3" * 45


async def test_a_long_log_loses_its_beginning_and_says_where_it_begins_now(book: LogBook) -> None:
    for start in range(0, 200, 40):
        await book.append("j1", 1, 0, start, b"%d" % (start // 40) * 40)
    chunk = await book.read("j1", 1, 0, 0, 100)
    assert (chunk.start, chunk.data, chunk.held) == (120, b"3" * 40, 200)
    assert await book.append("j1", 1, 0, 200, b"!") == 201


async def test_a_late_chunk_of_a_dropped_log_is_not_asked_for_from_the_start(book: LogBook) -> None:
    await book.append("j1", 1, 0, 0, b"1" * 40)
    await book.append("j1", 2, 0, 0, b"2" * 90)
    assert (await book.read("j1", 1, 0, 0, 9)).data == b"", "generation 1 was dropped"
    assert await book.append("j1", 1, 0, 40, b"late") == 44


@pytest.mark.parametrize("job", ["", "..", "../j1", "a/b", "j1\0", "j1\n", "." * 3, "x" * 65, "/etc"])
async def test_an_id_that_could_be_a_path_is_refused(book: LogBook, job: str) -> None:
    with pytest.raises(BadName):
        await book.append(job, 1, 0, 0, b"x")
    with pytest.raises(BadName):
        await book.read(job, 1, 0, 0, 1)
    assert not book.folder.exists()


async def test_a_follower_is_woken_by_the_next_chunk(book: LogBook) -> None:
    signal = book.signal("j1")
    await book.append("j2", 1, 0, 0, b"of another")
    assert not signal.is_set()
    await book.append("j1", 1, 0, 0, b"x")
    await asyncio.wait_for(signal.wait(), 60)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chunks=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(1, 30)), max_size=30),
    restarts=st.booleans(),
)
def test_what_is_held_is_always_one_true_run_of_bytes(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[tuple[int, int, int]], restarts: bool
) -> None:
    folder = tmp_path_factory.mktemp("shelf")
    truth = bytes(range(256)) * 8
    shelf = Shelf(folder, most=120, piece=25)
    for generation, back, size in chunks:
        held = shelf.held((generation, 0))
        start = max(0, held - back)
        assert shelf.append((generation, 0), start, truth[start : start + size]) == max(held, start + size)
        if restarts:
            shelf = Shelf(folder, most=120, piece=25)
        assert shelf.total == sum(path.stat().st_size for path in folder.iterdir())
        assert shelf.total <= 120 + 30
        offset = 0
        while (chunk := shelf.read((generation, 0), offset, 7)).data:
            assert chunk.data == truth[chunk.start : chunk.end]
            assert offset in (0, chunk.start), "only the beginning may be missing"
            offset = chunk.end
        assert chunk.start == shelf.held((generation, 0))
