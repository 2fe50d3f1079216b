"""Damaged checkpoints, claims and records: what is refused, and what is taken instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from obstore.store import MemoryStore

from dsched.jobs.runtime.checkpoint import (
    Checkpoints,
    NothingValid,
    look,
)
from dsched.jobs.runtime.manifest import Claim, Ref
from dsched.jobs.runtime.storage import FileStorage, ObjectStorage, Storage
from tests.support.checkpoints import damage, resumed_step, shards_of, state


@pytest.fixture(params=["disk", "object"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return FileStorage(tmp_path) if request.param == "disk" else ObjectStorage("memory://", MemoryStore())


@pytest.mark.parametrize("what", ["shard", "manifest", "missing shard"])
def test_damage_to_the_newest_is_told_and_the_one_before_is_taken(store: Storage, what: str) -> None:
    first = Checkpoints(store, 1)
    for step in (1, 2):
        first.save(step, state(step))
    shard = shards_of(store, 2)[1]
    if what == "missing shard":
        store.delete([shard])
    else:
        damage(store, shard if what == "shard" else Ref(1, 2).path)
    restored = Checkpoints(store, 2).restore()
    assert restored is not None
    assert restored.manifest.step == 1
    assert restored.fallback is not None
    assert restored.fallback.startswith("step 2 refused: ")
    assert restored.fallback.endswith("; took step 1")


def test_after_a_fallback_the_damaged_checkpoint_is_neither_preferred_nor_kept(store: Storage) -> None:
    first = Checkpoints(store, 1)
    for step in (10, 20):
        first.save(step, state(step))
    damage(store, shards_of(store, 20)[0])
    second = Checkpoints(store, 2)
    assert resumed_step(second) == 10
    second.save(15, state(15))
    assert look(store).refs == (Ref(2, 15), Ref(1, 10)), "the last good one outlives the damaged one"
    assert resumed_step(Checkpoints(store, 3)) == 15


def test_when_nothing_verifies_the_job_does_not_silently_start_again(store: Storage) -> None:
    first = Checkpoints(store, 1)
    for step in (1, 2):
        first.save(step, state(step))
        damage(store, shards_of(store, step)[0])
    with pytest.raises(NothingValid, match=r"step 2 refused.*step 1 refused"):
        Checkpoints(store, 2).restore()


def test_a_rejected_checkpoint_steps_back_one(store: Storage) -> None:
    first = Checkpoints(store, 1)
    for step in (1, 2):
        first.save(step, state(step))
    second = Checkpoints(store, 2)
    restored = second.restore()
    assert restored is not None
    second.reject(restored.manifest, "loss nan at the first step after it")
    third = Checkpoints(store, 3)
    assert resumed_step(third) == 1
    third.save(2, state(2))
    assert look(store).refs == (Ref(3, 2), Ref(1, 1))


def test_a_damaged_claim_hides_nothing(store: Storage) -> None:
    Checkpoints(store, 1).save(1, state(1))
    Checkpoints(store, 2).save(2, state(2))
    damage(store, Claim(2, ()).path)
    assert resumed_step(Checkpoints(store, 3)) == 2


def test_a_record_under_another_name_is_damaged(store: Storage) -> None:
    first = Checkpoints(store, 1)
    first.save(1, state(1))
    store.put(Ref(1, 9).path, [store.get(Ref(1, 1).path, 100_000)])
    restored = Checkpoints(store, 2).restore()
    assert restored is not None
    assert restored.manifest.step == 1
    assert "holds step 1" in restored.refused[0]


def test_a_record_that_means_the_same_in_other_bytes_is_damaged_too(store: Storage) -> None:
    first = Checkpoints(store, 1)
    for step in (1, 2):
        first.save(step, state(step))
    store.put(Ref(1, 2).path, [store.get(Ref(1, 2).path, 100_000) + b" "])
    assert resumed_step(Checkpoints(store, 2)) == 1
