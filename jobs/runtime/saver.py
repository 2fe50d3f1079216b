"""Saves without stopping the training: copy aside, write and commit behind the next steps.

The copy itself runs behind the next step's forward and backward passes, which read the state and do not change it:
`copied` is called before what changes it, and what is left of the copy then is the stall.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from dsched.jobs.runtime.checkpoint import Checkpoints, Conflict, Saved, Shards
from dsched.jobs.runtime.contract import Runtime
from dsched.jobs.runtime.storage import StorageError

log = logging.getLogger("dsched.checkpoint")


class Saver:
    """One save at a time: the staged copy belongs to the writer until it has committed.

    What becomes of a save is reported to the agent from the writing thread, as soon as it is known.
    """

    def __init__(self, checkpoints: Checkpoints, run: Runtime, *, first: Callable[[], object] = lambda: None) -> None:
        """`first`: what must be written before each checkpoint, by the same thread. It raises nothing."""
        self._checkpoints = checkpoints
        self._first = first
        self._run = run
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._copying: Future[Shards] | None = None
        self._pending: Future[bool] | None = None
        self._stall_ms = 0.0  # of the save under way, so far
        self._durable = True

    def save(self, step: int, stage: Callable[[], Shards], **facts: Any) -> float:
        """Save the state after `step`, copying it aside within this call; the stall in milliseconds.

        `stage` copies the state aside and returns the copy. `facts` are Checkpoints.save's. Raises what `wait` raises,
        about the save before this one.
        """
        return self.begin(step, stage, **facts) + self.copied()

    def begin(self, step: int, stage: Callable[[], Shards], **facts: Any) -> float:
        """As `save`, but the copy is made behind this call: the state must not change before `copied` returns."""
        began = time.perf_counter()
        self.wait()
        self._copying = self._pool.submit(stage)
        self._pending = self._pool.submit(self._write, step, self._copying, facts)
        self._stall_ms = (time.perf_counter() - began) * 1000
        return self._stall_ms

    def copied(self) -> float:
        """Wait until the copy under way is made, if there is one; how long that took, in milliseconds."""
        if self._copying is None:
            return 0.0
        began = time.perf_counter()
        copying, self._copying = self._copying, None
        wait([copying])
        waited = (time.perf_counter() - began) * 1000
        self._stall_ms += waited
        return waited

    def wait(self) -> bool:
        """Wait for the save under way. False when the last one is not durable: it was reported, the older ones stay.

        Raises Superseded, Conflict and PeerLost.
        """
        self._copying = None
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._durable = False
            self._durable = pending.result()
        return self._durable

    def close(self, *, abandon: bool = False) -> None:
        """`abandon`: a peer is lost, so the save under way cannot end; leave by os._exit."""
        self._pool.shutdown(wait=not abandon)

    def _write(self, step: int, copying: Future[Shards], facts: dict[str, Any]) -> bool:
        leads = self._checkpoints.leads  # one rank speaks for all: they have the same to say
        try:
            copied = copying.result()
            self._first()
            saved = self._checkpoints.save(step, copied, **facts)
        except StorageError as e:
            if leads:
                log.error("checkpoint of step %d not saved: %s", step, e)
                self._run.unsaved(step, str(e))
            return False
        except Conflict as e:
            self._run.alarm(step, str(e))
            raise
        if leads:
            self._tell(step, saved)
        return True

    def _tell(self, step: int, saved: Saved) -> None:
        for warning in saved.warnings:
            log.warning("checkpoint of step %d: %s", step, warning)
        if saved.alarm:
            log.error("checkpoint of step %d: %s", step, saved.alarm)
            self._run.alarm(step, saved.alarm)
        stall_ms = self._stall_ms
        log.info("checkpoint of step %d saved in %.0f ms, stall %.1f ms", step, saved.write_ms, stall_ms)
        size = sum(shard.size for shard in saved.manifest.shards)
        self._run.saved(step, uri=saved.uri, write_ms=round(saved.write_ms, 3), stall_ms=round(stall_ms, 3), size=size)
