"""Commit, faults of the disk and pruning, on shards of a few bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from obstore.store import MemoryStore

from dsched.jobs.runtime.checkpoint import (
    Checkpoints,
    look,
    newest_manifest,
)
from dsched.jobs.runtime.manifest import Manifest, Ref
from dsched.jobs.runtime.storage import FileStorage, Full, ObjectStorage, Storage, Unreachable
from tests.support.checkpoints import Faulty, resumed_step, shards_of, state


@pytest.fixture(params=["disk", "object"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return FileStorage(tmp_path) if request.param == "disk" else ObjectStorage("memory://", MemoryStore())


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
