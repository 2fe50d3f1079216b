"""Reports to the agent: one JSON object per datagram, never waiting, never failing.

A step must not be slower or die because nobody listens, so a datagram that cannot be delivered at once is dropped and
counted; the next one that gets through carries the count. What must not be lost is in the checkpoint and the exit code.

    {"event": "ready" | "step" | "saved" | "unsaved" | "alarm" | "preempted" | "done",
     "job": str, "generation": int, "rank": int, "at": wall ms, "step": int, "dropped"?: int, ...}

    ready      uri?, fallback?                            the state is loaded; the next step is step + 1
    step       steps?, loss?, tokens?, step_ms?, tokens_per_s?   absent when unknown or not finite; and the job's own
               numbers: mfu?, grad_norm?, expert_load?, drift?, memory_mib_per_h? (jobs/train/gauges.py)
    saved      uri, write_ms, stall_ms, bytes             the checkpoint of `step` is durable
    unsaved    reason                                     it is not; the last one stays
    alarm      reason                                     a step had different bits twice, or the run diverged
    preempted  the job leaves as it was told              done       it leaves because it is finished
"""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Mapping

DATAGRAM_BYTES_MAX = 8_192  # well below the kernel's limit; a longer report has lost its long texts
TEXT_CHARACTERS_MAX = 1_000  # of one field: a reason, a path

Field = str | int | float | None


class Reporter:
    """Sends reports to `address` (a Unix datagram socket's path); "" sends nowhere."""

    def __init__(self, address: str, who: Mapping[str, Field]) -> None:
        self.dropped = 0
        self._address = address
        self._who = dict(who)
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def send(self, event: str, **fields: Field) -> None:
        """Report `event`. Fields that are None or not finite are left out."""
        if self._socket is None:
            return
        known = {name: _short(value) for name, value in fields.items() if _is_known(value)}
        body: dict[str, Field] = {"event": event, **self._who, "at": time.time_ns() // 1_000_000, **known}
        if self.dropped:
            body["dropped"] = self.dropped
        data = json.dumps(body, separators=(",", ":")).encode()
        try:
            if len(data) > DATAGRAM_BYTES_MAX:
                raise OSError("datagram too long")
            self._socket.sendto(data, self._address)  # by path each time: the agent may have been restarted
        except OSError:
            self.dropped += 1
        else:
            self.dropped = 0

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


class Pace:
    """Turns steps into a step time and a rate. One step's time is noisy, so it is smoothed over about ten."""

    _WEIGHT = 0.1

    def __init__(self) -> None:
        self.tokens_per_s: float | None = None
        self._last: float | None = None
        self._step_s: float | None = None

    def tick(self, tokens: int | None, now: float) -> dict[str, Field]:
        """Count one finished step at `now` (monotonic seconds); the fields to report, empty for the first."""
        before, self._last = self._last, now
        if before is None:
            return {}
        took = now - before
        self._step_s = took if self._step_s is None else self._step_s + self._WEIGHT * (took - self._step_s)
        self.tokens_per_s = rate = tokens / self._step_s if tokens and self._step_s > 0 else None
        return {"step_ms": round(self._step_s * 1000, 3), "tokens_per_s": rate and round(rate, 1)}


def _is_known(value: Field) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def _short(value: Field) -> Field:
    return value[:TEXT_CHARACTERS_MAX] if isinstance(value, str) else value
