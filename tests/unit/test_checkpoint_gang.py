"""Several ranks save and restore together: all of them, or none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from dsched.jobs.runtime.checkpoint import Checkpoints, Conflict, NothingValid, Restored, Superseded, newest_manifest
from dsched.jobs.runtime.gang import Gang, PeerLost, led
from dsched.jobs.runtime.storage import Buffer, FileStorage, Full, StorageError

T = TypeVar("T")
RANKS = 2


class Table:
    """Where the ranks of one generation meet, as threads of one process."""

    def __init__(self, ranks: int = RANKS) -> None:
        self.words = [""] * ranks
        self.all_here = threading.Barrier(ranks, timeout=60)

    def seat(self, rank: int) -> Gang:
        return Seat(self, rank)


class Seat:
    def __init__(self, table: Table, rank: int) -> None:
        self._table, self.rank = table, rank

    def exchange(self, text: str) -> list[str]:
        try:
            self._table.words[self.rank] = text
            self._table.all_here.wait()
            words = list(self._table.words)
            self._table.all_here.wait()
        except threading.BrokenBarrierError as e:
            raise PeerLost("nobody came") from e
        return words


def everybody(action: Callable[[Gang], T], ranks: int = RANKS) -> list[T]:
    table = Table(ranks)
    with ThreadPoolExecutor(ranks) as pool:
        return list(pool.map(action, [table.seat(rank) for rank in range(ranks)]))


def failing(action: Callable[[Gang], object]) -> list[Exception]:
    def caught(gang: Gang) -> Exception:
        with pytest.raises(Exception, match=r".") as failure:
            action(gang)
        return failure.value

    return everybody(caught)


class FullFor(FileStorage):
    """A disk that is full for the shards of one rank."""

    def __init__(self, root: Path, name: str) -> None:
        super().__init__(root)
        self._name = name

    def put(self, path: str, chunks: Iterable[Buffer]) -> int:
        if path.endswith(self._name):
            raise Full(f"{path}: No space left on device")
        return super().put(path, chunks)


def save(root: Path, generation: int, step: int, *, bits: bytes = b"bits", store: FileStorage | None = None) -> None:
    def one(gang: Gang) -> None:
        checkpoints = Checkpoints(store or FileStorage(root), generation, gang=gang)
        saved = checkpoints.save(step, {f"{gang.rank}.bin": [bits + bytes([gang.rank])]}, world_size=RANKS)
        assert [shard.name for shard in saved.manifest.shards] == ["0.bin", "1.bin"]

    everybody(one)


def restore(root: Path, generation: int) -> list[Restored | None]:
    return everybody(
        lambda gang: Checkpoints(FileStorage(root), generation, gang=gang).restore(f"{gang.rank}.bin".__eq__)
    )


def test_each_rank_writes_and_reads_its_own_shards(tmp_path: Path) -> None:
    save(tmp_path, 1, 5)
    zero, one = restore(tmp_path, 2)
    assert zero is not None
    assert one is not None
    assert (dict(zero.shards), dict(one.shards)) == ({"0.bin": b"bits\0"}, {"1.bin": b"bits\1"})
    assert zero.manifest == one.manifest


def test_another_number_of_ranks_reads_the_same_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1, 5)
    alone = Checkpoints(FileStorage(tmp_path), 2).restore()
    assert alone is not None
    assert dict(alone.shards) == {"0.bin": b"bits\0", "1.bin": b"bits\1"}


def test_a_shard_that_one_rank_finds_damaged_makes_all_of_them_step_back(tmp_path: Path) -> None:
    save(tmp_path, 1, 5, bits=b"older")
    save(tmp_path, 2, 9)
    newest = newest_manifest(FileStorage(tmp_path))
    assert newest is not None
    (tmp_path / newest.shards[1].path).write_bytes(b"bitz\1")
    for found in restore(tmp_path, 3):
        assert found is not None
        assert found.manifest.step == 5
        assert "step 9 refused" in str(found.fallback)
        assert "SHA-256 differs" in str(found.fallback)


def test_with_nothing_left_all_of_them_say_so(tmp_path: Path) -> None:
    save(tmp_path, 1, 5)
    for shard in (tmp_path / "shards").rglob("1.bin"):
        shard.unlink()
    assert [type(each) for each in failing(lambda gang: restore_one(tmp_path, gang))] == [NothingValid] * RANKS


def restore_one(root: Path, gang: Gang) -> Restored | None:
    return Checkpoints(FileStorage(root), 2, gang=gang).restore(f"{gang.rank}.bin".__eq__)


def test_a_rank_that_cannot_write_keeps_all_of_them_from_committing(tmp_path: Path) -> None:
    store = FullFor(tmp_path, "1.bin")
    failures = failing(lambda gang: Checkpoints(store, 1, gang=gang).save(5, {f"{gang.rank}.bin": [b"x"]}))
    assert all(isinstance(each, Full) for each in failures)
    assert newest_manifest(store) is None
    assert store.list("shards") == [], "what was written is taken back: on a full disk it is what fills it"


def test_superseded_while_it_saves_every_rank_hears_of_it(tmp_path: Path) -> None:
    def late(gang: Gang) -> None:
        mine = Checkpoints(FileStorage(tmp_path), 1, gang=gang)
        led(gang, lambda: Checkpoints(FileStorage(tmp_path), 2).generation, {})
        mine.save(5, {f"{gang.rank}.bin": [b"x"]})

    assert [type(each) for each in failing(late)] == [Superseded] * RANKS


def test_other_bits_for_the_same_step_are_a_conflict_on_every_rank(tmp_path: Path) -> None:
    save(tmp_path, 1, 5)
    failures = failing(
        lambda gang: Checkpoints(FileStorage(tmp_path), 1, gang=gang).save(5, {f"{gang.rank}.bin": [b"other"]})
    )
    assert [type(each) for each in failures] == [Conflict] * RANKS
    assert all("one of the two machines computes wrongly" in str(each) for each in failures)


def test_equal_bits_of_a_twin_are_no_conflict_and_leave_nothing_behind(tmp_path: Path) -> None:
    save(tmp_path, 1, 5)
    before = FileStorage(tmp_path).list("shards")
    save(tmp_path, 1, 5)
    assert FileStorage(tmp_path).list("shards") == before


def test_an_earlier_computation_with_other_bits_is_an_alarm_whatever_the_number_of_ranks(tmp_path: Path) -> None:
    alone = Checkpoints(FileStorage(tmp_path), 1)
    alone.save(5, {"0.bin": [b"right\0"], "1.bin": [b"right\1"]})

    def again(bits: bytes, generation: int) -> list[str | None]:
        return everybody(
            lambda gang: (
                Checkpoints(FileStorage(tmp_path), generation, gang=gang)
                .save(5, {f"{gang.rank}.bin": [bits + bytes([gang.rank])]})
                .alarm
            )
        )

    assert again(b"right", 2) == [None, None]
    assert all("step 5 differs from generation" in str(alarm) for alarm in again(b"wrong", 3))


def test_a_failure_that_nobody_expects_stays_with_its_rank_and_the_others_notice() -> None:
    class Broken(Exception):
        pass

    def breaks() -> None:
        raise Broken

    table = Table()
    with pytest.raises(Broken):
        led(table.seat(0), breaks, {"StorageError": StorageError})
    table.all_here.abort()
    with pytest.raises(PeerLost):
        led(table.seat(1), breaks, {"StorageError": StorageError})
