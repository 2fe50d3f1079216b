"""Facts on their way to the daemon: bounded, in order, progress and telemetry by last value only.

A daemon that is away for an hour finds every start, exit and notice, the latest saves, and one progress per generation.
"""

from __future__ import annotations

import json
import threading
from typing import Final

from dsched.scheduler.wire.agent import Fact

FACTS_MAX: Final = 4_096  # beyond it the oldest save goes: a later one outdates it, other facts are few
BATCH_MAX: Final = 256  # facts per report
BATCH_BYTES: Final = 256 * 1024  # of their JSON: a few ends with hostile tails, and far below the daemon's own bound


class Outbox:
    """Any thread puts; one thread takes a batch and keeps it until the daemon has answered."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[object, Fact] = {}
        self._taken: list[Fact] = []
        self._count = 0
        self.dropped = 0

    def put(self, fact: Fact) -> None:
        with self._changed:
            self._count += 1
            key = _key(fact) or self._count
            self._waiting.pop(key, None)  # the newer one takes its place at the end, so that facts stay in order
            self._waiting[key] = fact
            if len(self._waiting) > FACTS_MAX:
                self._drop_one()
            self._changed.notify_all()

    def take(self) -> list[Fact]:
        """The next batch; waits for one."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            size = 0
            while self._waiting and len(self._taken) < BATCH_MAX:
                key, fact = next(iter(self._waiting.items()))
                size += len(json.dumps(fact))
                if self._taken and size > BATCH_BYTES:
                    break
                self._taken.append(self._waiting.pop(key))
            return list(self._taken)

    def done(self) -> None:
        """The daemon has answered for the batch."""
        with self._changed:
            self._taken.clear()

    def empty(self) -> bool:
        with self._changed:
            return not self._waiting and not self._taken

    def owes_exit(self, job: str, generation: int) -> bool:
        """Whether the end of this generation is still on its way."""
        with self._changed:
            return any(
                (fact["kind"] == "exited" or fact["kind"] == "setup-failed")
                and fact["job"] == job
                and fact["generation"] == generation
                for fact in (*self._taken, *self._waiting.values())
            )

    def _drop_one(self) -> None:
        oldest = next((key for key, fact in self._waiting.items() if fact["kind"] == "saved"), None)
        self._waiting.pop(next(iter(self._waiting)) if oldest is None else oldest)
        self.dropped += 1


def _key(fact: Fact) -> object:
    """Facts of one key outdate one another; None: each counts."""
    if fact["kind"] == "telemetry":
        return "telemetry"
    if fact["kind"] == "progress" and not fact.get("first"):
        return fact["job"], fact["generation"]
    return None
