"""The record of losses: exact, and forgiving of kills but not of differences."""

from __future__ import annotations

from pathlib import Path

from obstore.store import MemoryStore

from dsched.jobs.runtime.checkpoint import Checkpoints
from dsched.jobs.runtime.storage import FileStorage, Full, ObjectStorage
from dsched.jobs.train.losses import LossLog, compare, read

EXACT = 2.044858932495117


def run(folder: Path, losses: dict[int, float], *, generation: int = 1, weights: bytes = b"w") -> str:
    store = FileStorage(folder)
    log = LossLog(store, generation)
    for step, loss in losses.items():
        log.add(step, loss)
    Checkpoints(store, generation).save(max(losses), {"0": [weights]})
    return store.uri


def test_equal_runs_are_equal_to_the_last_bit(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", {1: EXACT, 2: float("nan")}), run(tmp_path / "b", {1: EXACT, 2: float("nan")})
    assert compare(a, b) == (2, [])


def test_a_difference_in_the_last_bit_is_seen(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", {1: EXACT}), run(tmp_path / "b", {1: 2.0448589324951176})
    assert compare(a, b)[1] == ["step 1: 2.044858932495117 and 2.0448589324951176"]


def test_a_missing_step_and_other_weights_are_differences(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", {1: EXACT, 2: 1.5}), run(tmp_path / "b", {2: 1.5}, weights=b"v")
    step, newest = compare(a, b)[1]
    assert step == "step 1: 2.044858932495117 and absent"
    assert newest.startswith("newest checkpoint: step 2 ")


def test_a_step_computed_twice_must_have_the_same_bits(tmp_path: Path) -> None:
    run(tmp_path, {1: 2.0, 2: 1.5})
    run(tmp_path, {2: 1.25, 3: 1.0}, generation=2)
    losses = read(FileStorage(tmp_path))
    assert losses.by_step == {1: "2.0", 2: "1.5", 3: "1.0"}
    assert losses.unequal == (f"step 2 within {tmp_path.as_uri()}: 1.5 and 1.25",)


def test_a_line_that_a_kill_tore_costs_that_line_only(tmp_path: Path) -> None:
    store = FileStorage(tmp_path)
    LossLog(store, 1).add(1, 2.0)
    store.append("losses/00000001.jsonl", b'{"step": 2, "lo')
    LossLog(store, 1).add(2, 1.5)  # the same generation, started again
    assert read(store).by_step == {1: "2.0", 2: "1.5"}


def test_losses_that_found_no_room_are_written_later(tmp_path: Path) -> None:
    store = FileStorage(tmp_path)
    log = LossLog(store, 1)
    log.add(1, 2.0)

    class FullDisk(FileStorage):
        def append(self, path: str, data: bytes) -> None:
            super().append(path, data[:9])
            raise Full(path)

    log._store = FullDisk(tmp_path)
    log.add(2, 1.5)
    log._store = store
    log.add(3, 1.0)
    assert read(store).by_step == {1: "2.0", 2: "1.5", 3: "1.0"}


def test_an_object_store_gets_them_with_the_checkpoint() -> None:
    store = ObjectStorage("memory://", MemoryStore())
    log = LossLog(store, 1)
    for step in (1, 2):
        log.add(step, 1.0)
    assert read(store).by_step == {}
    log.flush()
    assert sorted(read(store).by_step) == [1, 2]
