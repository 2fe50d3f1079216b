"""A rank's output on its way from the pipe to the spool."""

from __future__ import annotations

import os
from collections.abc import Callable

from dsched.jobs.agent.loop import Loop
from dsched.jobs.agent.spool import Stream

PIECE = 64 * 1024  # a pipe's whole buffer
DRAIN_MAX = 64 * PIECE  # at the end: no writer is left, so this is far more than the pipe can hold


class Tap:
    def __init__(self, loop: Loop, out: int, stream: Stream, ring: Callable[[], None]) -> None:
        self._loop, self._out, self._stream, self._ring = loop, out, stream, ring
        os.set_blocking(out, False)
        loop.watch(out, self._flow)

    def close(self) -> None:
        """Take what is left. The stream stays open: another process of the same rank may follow."""
        for _ in range(DRAIN_MAX // PIECE):
            if self._out < 0 or not self._flow():
                break
        self._shut()

    def _flow(self) -> bool:
        try:
            data = os.read(self._out, PIECE)
        except BlockingIOError:
            return False
        if not data:
            self._shut()
            return False
        self._stream.append(data)
        self._ring()
        return True

    def _shut(self) -> None:
        if self._out >= 0:
            self._loop.unwatch(self._out)
            os.close(self._out)
            self._out = -1
