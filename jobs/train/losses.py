"""Every step's loss, exactly: what proves that an interrupted run computed what an uninterrupted one does.

losses/<generation>.jsonl beside the checkpoints: one {"step": n, "loss": x} per line, x in its shortest exact text.
Steps that were computed again after a kill appear again in a later generation's file and must be equal there.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from threading import Lock
from typing import Final

from dsched.jobs.runtime.checkpoint import newest_manifest
from dsched.jobs.runtime.storage import Storage, StorageError, open_storage

log = logging.getLogger("dsched.losses")

FOLDER: Final = "losses"
FILE_BYTES_MAX: Final = 1 << 30  # about 20 million steps of one generation
PENDING_LINES_MAX: Final = 100_000  # held while the store takes none (5 MB); later ones are lost and counted as missing


class LossLog:
    """Appends to this generation's file: each step on a disk, with each checkpoint on an object store."""

    def __init__(self, store: Storage, generation: int) -> None:
        self._store = store
        self._path = f"{FOLDER}/{generation:08d}.jsonl"
        self._pending: list[str] = []
        self._writing = Lock()
        self._torn = True  # this generation's earlier start, or our failed append, may have left half a line

    def add(self, step: int, loss: float) -> None:
        if len(self._pending) < PENDING_LINES_MAX:
            self._pending.append(json.dumps({"step": step, "loss": loss}) + "\n")
        if self._store.appends_cheaply:
            self.flush()

    def flush(self) -> None:
        """Write what is pending. A failure is logged and tried again with the next step: it must not stop training.

        May be called by several threads.
        """
        with self._writing:
            taken = self._pending[:]  # another thread may add meanwhile
            if taken:
                self._write("".join(taken), len(taken))

    def _write(self, lines: str, count: int) -> None:
        try:
            self._store.append(self._path, ("\n" + lines if self._torn else lines).encode())
        except StorageError as e:
            if not self._torn:
                log.warning("losses not written, kept for later: %s", e)
            self._torn = True
        else:
            self._torn = False
            del self._pending[:count]


@dataclass(frozen=True, slots=True)
class Losses:
    """One run's losses over all its generations, as the exact texts."""

    by_step: dict[int, str]
    unequal: tuple[str, ...]  # steps that were computed twice with different bits


def read(store: Storage) -> Losses:
    """Lines that a kill tore are passed over: their steps were computed again."""
    by_step: dict[int, str] = {}
    unequal: list[str] = []
    for path in store.list(FOLDER):
        for line in store.get(path, FILE_BYTES_MAX).decode(errors="replace").splitlines():
            if (entry := _entry(line)) is None:
                continue
            step, loss = entry
            if by_step.setdefault(step, loss) != loss:
                unequal.append(f"step {step} within {store.uri}: {by_step[step]} and {loss}")
    return Losses(by_step, tuple(unequal))


def compare(uri_a: str, uri_b: str) -> tuple[int, list[str]]:
    """How many steps are in both runs, and every difference: an empty list means bit-identical, checkpoints included.

    Raises StorageError.
    """
    a, b = open_storage(uri_a), open_storage(uri_b)
    one, two = read(a), read(b)
    differences = [*one.unequal, *two.unequal]
    for step in sorted(one.by_step.keys() | two.by_step.keys()):
        x, y = one.by_step.get(step, "absent"), two.by_step.get(step, "absent")
        if x != y:
            differences.append(f"step {step}: {x} and {y}")
    last, other = newest_manifest(a), newest_manifest(b)
    if last is None or other is None or (last.step, last.digest) != (other.step, other.digest):
        x, y = (f"step {m.step} {m.digest[:16]}" if m else "absent" for m in (last, other))
        differences.append(f"newest checkpoint: {x} and {y}")
    return len(one.by_step.keys() & two.by_step.keys()), differences


def _entry(line: str) -> tuple[int, str] | None:
    try:
        body = json.loads(line, parse_float=str, parse_constant=str)
        return int(body["step"]), str(body["loss"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
