"""Checkpoints of a few bytes, a disk that fails when told to, and how to damage what lies there."""

from __future__ import annotations

from collections.abc import Iterable

from dsched.jobs.runtime.checkpoint import Checkpoints
from dsched.jobs.runtime.storage import Buffer, FileStorage, Storage


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
