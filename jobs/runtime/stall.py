"""Notice that the steps have stopped: a peer that is gone without a word, a wedged device, a disk that never answers.

The agent sees the same from outside by silence without CPU time; this one knows how long a step takes, and sees a rank
that spins too. It leaves with 76, so that the next generation goes on from the last checkpoint.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from dsched.scheduler.wire.agent import EXIT_PEER_LOST

log = logging.getLogger("dsched.stall")

FIRST_S: Final = 1_800.0  # before the first step nobody knows how long one takes, and compilers work in it
FLOOR_S: Final = 60.0  # full page caches and slow disks take long once, and that is no hang
TIMES: Final = 3.0  # the median step
STEPS: Final = 64  # of which the median is taken
LOOKS: Final = 4  # per limit


class StallWatch:
    """Enter it for each step. When one takes longer than `limit_s`, every thread's stack is logged and `leave` called,
    from another thread. What lies between two steps, as waiting for a slow disk, is not its business."""

    def __init__(
        self,
        *,
        floor_s: float = FLOOR_S,
        first_s: float = FIRST_S,
        leave: Callable[[], None] = lambda: os._exit(EXIT_PEER_LOST),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._floor_s, self._first_s, self._leave, self._monotonic = floor_s, first_s, leave, monotonic
        self._steps: deque[float] = deque(maxlen=STEPS)
        self._began: float | None = None
        self._over = threading.Event()
        threading.Thread(target=self._watch, name="stall-watch", daemon=True).start()

    @property
    def limit_s(self) -> float:
        return max(self._floor_s, TIMES * statistics.median(self._steps)) if self._steps else self._first_s

    def __enter__(self) -> None:
        self._began = self._monotonic()

    def __exit__(self, *_: object) -> None:
        if self._began is not None:
            self._steps.append(self._monotonic() - self._began)
        self._began = None

    def close(self) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(self._floor_s / LOOKS):
            began = self._began
            if began is not None and self._monotonic() - began > self.limit_s:
                log.error("a step takes more than %.0f s: leaving, a peer or a device hangs", self.limit_s)
                faulthandler.dump_traceback(sys.stderr)
                self._leave()
                return
