"""Hints to whoever listens. A listener that is too slow is cut off; it connects again and looks for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from dsched.providers.base import Notice

QUEUE_MAX: Final = 1_000  # hints not yet taken; a daemon that is so far behind must look at everything anyway
LISTENERS_MAX: Final = 16


class Hints:
    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[Notice | None]] = set()

    def tell(self, notice: Notice) -> None:
        for queue in list(self._queues):
            if queue.qsize() >= QUEUE_MAX:
                self._queues.discard(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(notice)

    @contextmanager
    def listen(self) -> Iterator[asyncio.Queue[Notice | None]]:
        """Hints from now on; None means cut off."""
        queue: asyncio.Queue[Notice | None] = asyncio.Queue()
        if len(self._queues) >= LISTENERS_MAX:
            queue.put_nowait(None)
        else:
            self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)
