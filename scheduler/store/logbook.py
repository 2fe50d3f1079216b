"""Job logs on disk: appended by offset, so that a repeat changes nothing, read by offset, followed without polling.

File work happens in one thread of its own, in the order of the calls: a slow disk holds up the logs and nothing else.
Nothing is fsynced: agents keep what was not acknowledged and send again from what is held.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from dsched.scheduler.store.errors import StoreError
from dsched.scheduler.store.shelf import Chunk, Key, Shelf

T = TypeVar("T")
__all__ = ["BadName", "Chunk", "LogBook"]

JOB_MAX: Final = 64 * 1024 * 1024  # bytes of one job's logs, all generations and ranks; the oldest are dropped first
PIECE_MAX: Final = 4 * 1024 * 1024  # bytes after which a new file is begun: what one drop loses
SHELVES_MAX: Final = 256  # jobs whose files are known by heart; others are listed again when asked for
_JOB: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
GENERATION_MAX: Final = 10**12 - 1
RANK_MAX: Final = 10**6 - 1


class BadName(StoreError):
    """A job id, generation or rank that names no log."""


class LogBook:
    def __init__(self, folder: Path, *, job_max: int = JOB_MAX, piece_max: int = PIECE_MAX) -> None:
        self.folder, self.job_max, self.piece_max = folder, job_max, piece_max
        self._shelves: OrderedDict[str, Shelf] = OrderedDict()  # touched by the one thread only
        self._signals: dict[str, asyncio.Event] = {}  # jobs that somebody follows
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="logs")

    async def append(self, job: str, generation: int, rank: int, offset: int, data: bytes) -> int:
        """Bytes held now. An overlap is skipped; after a gap the answer is less than `offset`: send again from there.

        Raises BadName, or OSError when the disk refuses.
        """
        key = _key(job, generation, rank)
        held = await self._run(self._append, job, key, offset, data)
        if held == offset + len(data):
            self.wake(job)
        return held

    async def read(self, job: str, generation: int, rank: int, offset: int, limit: int) -> Chunk:
        """Up to `limit` bytes from `offset` on; later ones when those were dropped; none at the end. Raises BadName."""
        key = _key(job, generation, rank)
        return await self._run(lambda: self._shelf(job).read(key, offset, limit))

    async def generations(self, job: str) -> list[Key]:
        """(generation, rank) of every log that is held, oldest generation first. Raises BadName."""
        _key(job, 0, 0)
        return await self._run(lambda: sorted(self._shelf(job).ranks))

    def signal(self, job: str) -> asyncio.Event:
        """Set at the next change of this job's logs or of the job. Take it before reading, wait on it after."""
        return self._signals.setdefault(job, asyncio.Event())

    def wake(self, job: str) -> None:
        """Something happened to the job: whoever follows its logs looks again."""
        signal = self._signals.pop(job, None)
        if signal is not None:
            signal.set()

    def wake_all(self) -> None:
        for job in list(self._signals):
            self.wake(job)

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _run(self, work: Callable[..., T], *given: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *given)

    def _append(self, job: str, key: Key, offset: int, data: bytes) -> int:
        try:
            return self._shelf(job).append(key, offset, data)
        except OSError:
            self._shelves.pop(job, None)  # a part may have been written: look again at the next call
            raise

    def _shelf(self, job: str) -> Shelf:
        shelf = self._shelves.get(job)
        if shelf is None:
            shelf = self._shelves[job] = Shelf(self.folder / job, most=self.job_max, piece=self.piece_max)
            if len(self._shelves) > SHELVES_MAX:
                self._shelves.popitem(last=False)
        self._shelves.move_to_end(job)
        return shelf


def _key(job: str, generation: int, rank: int) -> Key:
    """Nothing that a caller says becomes a path unless it has the form of an id or a number."""
    if not _JOB.fullmatch(job):
        raise BadName(f"not a job id: {job[:80]!r}")
    if not (0 <= generation <= GENERATION_MAX and 0 <= rank <= RANK_MAX):
        raise BadName(f"no such log: generation {generation}, rank {rank}")
    return generation, rank
