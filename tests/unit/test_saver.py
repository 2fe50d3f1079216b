"""Checkpoints written behind the training's back."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from dsched.jobs.runtime.checkpoint import (
    Checkpoints,
    Superseded,
    newest_manifest,
)
from dsched.jobs.runtime.contract import Environment, Runtime
from dsched.jobs.runtime.saver import Saver
from dsched.jobs.runtime.storage import Buffer, FileStorage, Full
from tests.support.checkpoints import Faulty, state


class Gate(FileStorage):
    """A disk that writes only when told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.open = threading.Event()

    def put(self, path: str, chunks: Iterable[Buffer]) -> int:
        assert self.open.wait(60)
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
    second.join(60)
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
