"""Fence, commit, fallback and pruning, on shards of a few bytes."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from obstore.store import MemoryStore

from dsched.jobs.runtime.checkpoint import (
    Checkpoints,
    Conflict,
    NothingValid,
    Superseded,
    look,
    newest_manifest,
)
from dsched.jobs.runtime.contract import Environment, Runtime
from dsched.jobs.runtime.manifest import Claim, Manifest, Ref
from dsched.jobs.runtime.saver import Saver
from dsched.jobs.runtime.storage import Buffer, FileStorage, Full, ObjectStorage, Storage, Unreachable


@pytest.fixture(params=["disk", "object"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return FileStorage(tmp_path) if request.param == "disk" else ObjectStorage("memory://", MemoryStore())


def state(step: int, salt: bytes = b"") -> dict[str, list[Buffer]]:
    """What a deterministic job holds after `step`: two shards."""
    return {"00000.safetensors": [b"weights", str(step).encode()], "00001.safetensors": [bytes(2_000), salt]}


def resumed_step(checkpoints: Checkpoints) -> int:
    restored = checkpoints.restore()
    return restored.manifest.step if restored else 0


def damage(store: Storage, path: str) -> None:
    data = bytearray(store.get(path, 1 << 20))
    data[len(data) // 2] ^= 0x10
    store.put(path, [data])


def shards_of(store: Storage, step: int) -> list[str]:
    return [path for path in store.list("shards") if path.startswith(f"shards/{step:012d}.")]


def test_a_new_store_has_nothing_to_resume(store: Storage) -> None:
    assert Checkpoints(store, 1).restore() is None
    assert newest_manifest(store) is None


def test_what_was_saved_comes_back_with_its_facts(store: Storage) -> None:
    saved = Checkpoints(store, 1).save(
        7, state(7), data={"position": 7}, numerics={"chip": "x"}, extra={"loss": 0.1}, world_size=2
    )
    restored = Checkpoints(store, 2).restore()
    assert restored is not None
    assert restored.shards["00000.safetensors"] == b"weights7"
    assert restored.manifest == saved.manifest
    assert (restored.manifest.data, restored.manifest.extra) == ({"position": 7}, {"loss": 0.1})
    assert restored.fallback is None
    assert saved.uri == f"{store.uri}/manifests/000000000007.g00000001.json"


def test_without_its_manifest_a_checkpoint_does_not_exist(store: Storage) -> None:
    first = Checkpoints(store, 1)
    first.save(1, state(1))
    first.save(2, state(2))
    store.delete([Ref(1, 2).path])  # as if killed before the commit
    assert resumed_step(Checkpoints(store, 2)) == 1


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


def test_two_are_kept_and_their_orphans_are_swept(store: Storage) -> None:
    first = Checkpoints(store, 1)
    store.put("shards/000000000003.g00000001.abcdef0123/00000.safetensors", [b"a killed writer's"])
    store.put("shards/README", [b"foreign: stays"])
    for step in (1, 2, 3):
        first.save(step, state(step))
    assert look(store).refs == (Ref(1, 3), Ref(1, 2))
    assert shards_of(store, 1) == []
    assert len(shards_of(store, 3)) == 3, "an orphan of this generation may be another writer's work"
    Checkpoints(store, 2).save(4, state(4))
    assert [len(shards_of(store, step)) for step in (2, 3, 4)] == [0, 2, 2]
    assert "shards/README" in store.list("shards")


def test_keeping_fewer_than_two_is_refused(store: Storage) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        Checkpoints(store, 1, keep=1)


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


class Faulty(FileStorage):
    """A disk with errors that a test switches on."""

    failing: type[Exception] | None = None
    on = "shards"

    def put(self, path: str, chunks: Iterable[Buffer]) -> int:
        self._fail(path)
        return super().put(path, chunks)

    def create(self, path: str, data: bytes) -> None:
        super().create(path, data)
        self._fail(path)

    def list(self, folder: str) -> list[str]:
        self._fail(f"list {folder}")
        return super().list(folder)

    def _fail(self, path: str) -> None:
        if self.failing and path.startswith(self.on):
            raise self.failing(f"{path}: out of luck")


def test_no_room_is_reported_and_the_last_good_one_stays(tmp_path: Path) -> None:
    store = Faulty(tmp_path)
    first = Checkpoints(store, 1)
    first.save(1, state(1))
    store.failing = Full
    with pytest.raises(Full):
        first.save(2, state(2))
    assert shards_of(FileStorage(tmp_path), 2) == []
    store.failing = None
    first.save(3, state(3))
    assert resumed_step(Checkpoints(store, 2)) == 3


def test_a_commit_without_an_answer_keeps_its_shards(tmp_path: Path) -> None:
    store = Faulty(tmp_path)
    first = Checkpoints(store, 1)
    store.failing, store.on = Unreachable, "manifests"
    with pytest.raises(Unreachable):
        first.save(1, state(1))
    store.failing = None
    assert resumed_step(Checkpoints(store, 2)) == 1


def test_a_failure_to_tidy_up_does_not_undo_the_save(tmp_path: Path) -> None:
    store = Faulty(tmp_path)
    first = Checkpoints(store, 1)
    store.failing, store.on = Unreachable, "list"
    saved = first.save(1, state(1))
    assert saved.warnings == ("old checkpoints not removed: list claims: out of luck",)


def test_an_unreachable_store_is_not_an_empty_one(tmp_path: Path) -> None:
    store = Faulty(tmp_path)
    first = Checkpoints(store, 1)
    first.save(1, state(1))
    store.failing, store.on = Unreachable, "list"
    with pytest.raises(Unreachable):
        first.restore()


def test_the_digest_is_of_the_content_not_of_the_writer() -> None:
    content: dict[str, Any] = {"step": 3, "shards": (), "data": {"at": (1, 2)}}
    one = Manifest(**content, generation=1, created_ms=5, parent="x")
    two = Manifest(**content | {"data": {"at": [1, 2]}}, generation=2, created_ms=9)
    assert one.digest == two.digest
    assert one.digest != Manifest(**content | {"step": 4}, generation=1).digest


class Gate(FileStorage):
    """A disk that writes only when told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.open = threading.Event()

    def put(self, path: str, chunks: Iterable[Buffer]) -> int:
        assert self.open.wait(10)
        return super().put(path, chunks)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


@pytest.fixture
def saver(gate: Gate) -> Iterator[Saver]:
    saver = Saver(Checkpoints(gate, 1), Runtime(Environment()))
    yield saver
    gate.open.set()
    saver.close()


def test_training_goes_on_while_the_disk_is_busy(gate: Gate, saver: Saver) -> None:
    stall_ms = saver.save(1, lambda: state(1))
    assert stall_ms >= 0
    assert newest_manifest(gate) is None, "save() came back before anything was written"
    gate.open.set()
    assert saver.wait()
    assert newest_manifest(gate) is not None


def test_the_staged_copy_is_not_touched_before_it_is_written(gate: Gate, saver: Saver) -> None:
    staged: list[int] = []
    saver.save(1, lambda: state(1))
    second = threading.Thread(target=lambda: saver.save(2, lambda: (staged.append(2), state(2))[1]))
    second.start()
    assert staged == [], "the first save is not through"
    gate.open.set()
    second.join(10)
    assert staged == [2]
    assert saver.wait()


def test_a_save_that_failed_is_known_and_can_be_repeated(tmp_path: Path) -> None:
    store = Faulty(tmp_path)
    saver = Saver(Checkpoints(store, 1), Runtime(Environment()))
    store.failing = Full
    saver.save(1, lambda: state(1))
    assert not saver.wait()
    assert not saver.wait(), "still not durable"
    store.failing = None
    saver.save(1, lambda: state(1))
    assert saver.wait()
    saver.close()


def test_a_zombies_saver_learns_that_it_is_one(tmp_path: Path) -> None:
    saver = Saver(Checkpoints(FileStorage(tmp_path), 1), Runtime(Environment()))
    Checkpoints(FileStorage(tmp_path), 2)
    saver.save(1, lambda: state(1))
    with pytest.raises(Superseded):
        saver.wait()
    saver.close()


def test_every_byte_is_on_the_disk_before_the_manifest_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, link = os.fsync, os.link

    def noted_fsync(fd: int) -> None:
        target = os.readlink(f"/proc/self/fd/{fd}")
        order.append("folder " + Path(target).name if os.path.isdir(target) else "file")
        fsync(fd)

    def noted_link(source: Any, target: Any) -> None:
        order.append("commit")
        link(source, target)

    first = Checkpoints(FileStorage(tmp_path), 1)
    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "link", noted_link)
    first.save(1, {"a": [b"x"]})
    before, after = order[: order.index("commit")], order[order.index("commit") + 1 :]
    assert before.count("file") == 2, "the shard and the manifest"
    assert any(each.startswith("folder 000000000001.g00000001") for each in before)
    assert after == ["folder manifests"]
