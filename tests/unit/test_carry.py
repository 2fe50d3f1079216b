"""A checkpoint's way from one cloud's store to another's: the same bytes, once, and the old store fenced behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsched.jobs.runtime.carry import carry, open_checkpoints
from dsched.jobs.runtime.checkpoint import Checkpoints, NothingValid, Superseded, look
from dsched.jobs.runtime.contract import Environment
from dsched.jobs.runtime.storage import FileStorage, Storage


@pytest.fixture
def here(tmp_path: Path) -> FileStorage:
    return FileStorage(tmp_path / "here")


@pytest.fixture
def there(tmp_path: Path) -> FileStorage:
    return FileStorage(tmp_path / "there")


def save(store: Storage, generation: int, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(store, generation)
    for step in steps:
        checkpoints.save(step, {"weights": [b"%d of %d" % (step, generation)]})
    return checkpoints


def damage(store: FileStorage, step: int) -> None:
    for path in store.list("shards"):
        if f"{step:012d}" in path:
            (Path(store.uri.removeprefix("file://")) / path).write_bytes(b"zeros")


def test_the_newest_is_carried_and_restored_with_the_same_bytes(here: FileStorage, there: FileStorage) -> None:
    save(here, 1, 10, 20)
    carried = carry(here, there, 2)
    assert carried is not None
    restored = Checkpoints(there, 2).restore()
    assert restored is not None
    assert (restored.manifest, restored.shards) == (carried, {"weights": b"20 of 1"})
    assert len(look(there).refs) == 1  # one, and not the whole history


def test_what_is_left_behind_cannot_harm_its_successor(here: FileStorage, there: FileStorage) -> None:
    zombie = save(here, 1, 10)
    carry(here, there, 2)
    with pytest.raises(Superseded):
        zombie.save(30, {"weights": [b"late"]})
    back = Checkpoints(here, 3).restore()  # and should the job come back, the late one is in nobody's past
    assert back is not None
    assert back.manifest.step == 10


def test_a_second_start_of_the_same_generation_carries_nothing_twice(here: FileStorage, there: FileStorage) -> None:
    save(here, 1, 10)
    assert carry(here, there, 2) is not None
    Checkpoints(there, 2)
    assert carry(here, there, 2) is None


@pytest.mark.parametrize("generation", [2, 3])
def test_a_start_that_finds_it_there_does_not_read_it_again(
    tmp_path: Path, there: FileStorage, generation: int
) -> None:
    class Far(FileStorage):
        """What is read of it is paid by the gigabyte."""

        def get(self, path: str, size_max: int) -> bytes:
            read.append(path)
            return super().get(path, size_max)

    read = list[str]()
    far = Far(tmp_path / "far")
    save(far, 1, 10)
    carry(far, there, 2)
    Checkpoints(there, 2)
    read.clear()
    assert carry(far, there, generation) is None
    assert [path for path in read if path.startswith("shards")] == []


def test_a_store_that_is_ahead_keeps_its_own(here: FileStorage, there: FileStorage) -> None:
    save(here, 1, 10)
    save(there, 2, 15)
    assert carry(here, there, 3) is None
    restored = Checkpoints(there, 3).restore()
    assert restored is not None
    assert restored.manifest.step == 15


def test_there_and_back_again(here: FileStorage, there: FileStorage) -> None:
    save(here, 1, 10)
    carry(here, there, 2)
    save(there, 2, 20)
    carried = carry(there, here, 3)
    assert carried is not None
    restored = Checkpoints(here, 3).restore()
    assert restored is not None
    assert (restored.manifest.step, restored.shards["weights"]) == (20, b"20 of 2")


def test_a_damaged_one_is_not_carried_but_the_one_before(here: FileStorage, there: FileStorage) -> None:
    save(here, 1, 10, 20)
    damage(here, 20)
    carried = carry(here, there, 2)
    assert carried is not None
    assert carried.step == 10


def test_a_history_of_which_nothing_verifies_is_no_empty_one(here: FileStorage, there: FileStorage) -> None:
    save(here, 1, 10)
    damage(here, 10)
    with pytest.raises(NothingValid):
        carry(here, there, 2)
    save(there, 1, 5)
    assert carry(here, there, 2) is None  # there is an older one to go on from


def test_the_environment_says_whence_and_without_it_nothing_is_touched(tmp_path: Path, here: FileStorage) -> None:
    save(here, 1, 10)
    told = {"DSCHED_GENERATION": "2", "DSCHED_CARRY": here.uri}
    moved = open_checkpoints(Environment.read(told), str(tmp_path / "there")).restore()
    assert moved is not None
    assert moved.manifest.step == 10
    alone = open_checkpoints(Environment.read({"DSCHED_GENERATION": "2"}), str(tmp_path / "elsewhere"))
    assert alone.restore() is None
