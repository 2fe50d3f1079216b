"""Generations that claim one store: who is superseded, who is ignored, and when two disagree."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from obstore.store import MemoryStore

from dsched.jobs.runtime.checkpoint import (
    Checkpoints,
    Conflict,
    Superseded,
    look,
)
from dsched.jobs.runtime.manifest import Claim, Ref
from dsched.jobs.runtime.storage import Buffer, FileStorage, ObjectStorage, Storage
from tests.support.checkpoints import damage, resumed_step, shards_of, state


@pytest.fixture(params=["disk", "object"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return FileStorage(tmp_path) if request.param == "disk" else ObjectStorage("memory://", MemoryStore())


def test_a_claim_names_the_newest_manifest_it_saw(store: Storage) -> None:
    Checkpoints(store, 1).save(5, state(5))
    Checkpoints(store, 2)
    claim = json.loads(store.get(Claim(2, ()).path, 1_000))["body"]
    assert claim["newest"] == "manifests/000000000005.g00000001.json"


def test_a_zombies_late_checkpoint_is_ignored_for_ever(store: Storage) -> None:
    zombie = Checkpoints(store, 1)
    zombie.save(10, state(10))
    successor = Checkpoints(store, 2)
    with pytest.raises(Superseded, match="generation 2 has claimed"):
        zombie.save(20, state(20))
    assert Ref(1, 20) in look(store).refs, "the zombie did commit"
    assert resumed_step(successor) == 10
    successor.save(11, state(11))
    assert resumed_step(Checkpoints(store, 3)) == 11
    assert resumed_step(Checkpoints(store, 9)) == 11


def test_a_zombie_that_commits_before_its_successors_first_save_stays_ignored_later(store: Storage) -> None:
    zombie = Checkpoints(store, 1)
    zombie.save(10, state(10))
    Checkpoints(store, 2)  # claims and dies before saving
    with pytest.raises(Superseded):
        zombie.save(20, state(20))
    assert resumed_step(Checkpoints(store, 3)) == 10


def test_an_older_generation_cannot_claim_after_a_newer_one(store: Storage) -> None:
    Checkpoints(store, 2)
    with pytest.raises(Superseded, match="generation 2"):
        Checkpoints(store, 1)


def test_a_program_without_an_agent_numbers_itself(store: Storage) -> None:
    assert Checkpoints(store).generation == 1
    assert Checkpoints(store).generation == 2


def test_programs_that_start_at_once_without_an_agent_get_numbers_of_their_own(tmp_path: Path) -> None:
    numbers: list[int] = []
    threads = [
        threading.Thread(target=lambda: numbers.append(Checkpoints(FileStorage(tmp_path)).generation)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(numbers) == len(set(numbers))


def test_a_restart_of_the_same_generation_sees_its_own_checkpoints_and_the_same_past(store: Storage) -> None:
    zombie = Checkpoints(store, 1)
    zombie.save(1, state(1))
    Checkpoints(store, 2).save(2, state(2))
    with pytest.raises(Superseded):
        zombie.save(30, state(30))
    assert resumed_step(Checkpoints(store, 2)) == 2


def test_two_writers_of_one_generation_with_equal_bits_do_no_harm(store: Storage) -> None:
    one, two = Checkpoints(store, 1), Checkpoints(store, 1)
    first = one.save(5, state(5))
    assert two.save(5, state(5)).alarm is None
    restored = Checkpoints(store, 2).restore()
    assert restored is not None
    assert restored.manifest == first.manifest
    assert len(shards_of(store, 5)) == 2, "the second writer's copies are gone"


def test_two_writers_of_one_generation_with_different_bits_are_an_alarm(store: Storage) -> None:
    one, two = Checkpoints(store, 1), Checkpoints(store, 1)
    one.save(5, state(5))
    with pytest.raises(Conflict, match="computes wrongly"):
        two.save(5, state(5, salt=b"flipped"))
    assert resumed_step(Checkpoints(store, 2)) == 5


def test_another_writer_of_this_generation_does_not_sweep_what_is_being_written(store: Storage) -> None:
    one, two = Checkpoints(store, 1), Checkpoints(store, 1)

    class Slow(dict[str, list[Buffer]]):
        def items(self) -> Any:
            yield from list(super().items())[:1]
            two.save(5, state(5))
            yield from list(super().items())[1:]

    one.save(6, Slow(state(6)))
    assert resumed_step(Checkpoints(store, 2)) == 6


def test_a_step_recomputed_by_a_later_generation_with_other_bits_raises_the_alarm(store: Storage) -> None:
    first = Checkpoints(store, 1)
    for step in (1, 2):
        first.save(step, state(step), numerics={"chip": "x"})
    damage(store, shards_of(store, 2)[0])
    second = Checkpoints(store, 2)
    assert resumed_step(second) == 1
    assert second.save(2, state(2, b"other"), numerics={"chip": "x"}).alarm is None, "what is damaged proves nothing"
    third = Checkpoints(store, 3)
    assert third.save(2, state(2, b"another"), numerics={"chip": "y"}).alarm is None, "another chip may round otherwise"
    alarm = Checkpoints(store, 4).save(2, state(2), numerics={"chip": "x"}).alarm
    assert alarm == "step 2 differs from generation 2's, computed on equal numerics"
