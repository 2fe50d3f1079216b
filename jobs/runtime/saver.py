"""Saves without stopping the training: copy aside inside the stall, write and commit behind the next steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from dsched.jobs.runtime.checkpoint import Checkpoints, Conflict, Shards
from dsched.jobs.runtime.contract import Runtime
from dsched.jobs.runtime.storage import StorageError

log = logging.getLogger("dsched.checkpoint")


class Saver:
    """One save at a time: the staged copy belongs to the writer until it has committed.

    What becomes of a save is reported to the agent from the writing thread, as soon as it is known.
    """

    def __init__(self, checkpoints: Checkpoints, run: Runtime) -> None:
        self._checkpoints = checkpoints
        self._run = run
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[bool] | None = None
        self._durable = True

    def save(self, step: int, stage: Callable[[], Shards], **facts: Any) -> float:
        """Begin to save the state after `step`; the stall in milliseconds.

        `stage` copies the state aside and returns the copy. `facts` are Checkpoints.save's. Raises what `wait` raises,
        about the save before this one.
        """
        began = time.perf_counter()
        self.wait()
        shards = stage()
        stall_ms = (time.perf_counter() - began) * 1000
        self._pending = self._pool.submit(self._write, step, shards, stall_ms, facts)
        return stall_ms

    def wait(self) -> bool:
        """Wait for the save under way. False when the last one is not durable: it was reported, the older ones stay.

        Raises Superseded and Conflict.
        """
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._durable = False
            self._durable = pending.result()
        return self._durable

    def close(self) -> None:
        self._pool.shutdown()

    def _write(self, step: int, shards: Shards, stall_ms: float, facts: dict[str, Any]) -> bool:
        try:
            saved = self._checkpoints.save(step, shards, **facts)
        except StorageError as e:
            log.error("checkpoint of step %d not saved: %s", step, e)
            self._run.unsaved(step, str(e))
            return False
        except Conflict as e:
            self._run.alarm(step, str(e))
            raise
        for warning in saved.warnings:
            log.warning("checkpoint of step %d: %s", step, warning)
        if saved.alarm:
            log.error("checkpoint of step %d: %s", step, saved.alarm)
            self._run.alarm(step, saved.alarm)
        log.info("checkpoint of step %d saved in %.0f ms, stall %.1f ms", step, saved.write_ms, stall_ms)
        size = sum(shard.size for shard in saved.manifest.shards)
        self._run.saved(step, uri=saved.uri, write_ms=round(saved.write_ms, 3), stall_ms=round(stall_ms, 3), size=size)
        return True
