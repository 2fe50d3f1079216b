"""Have outlooks made by a process of their own: one at a time, asked over a pipe, answered to the core as a message."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from pathlib import Path
from typing import Final

import structlog

from dsched.scheduler.core.deadline.outlook import Outlook
from dsched.scheduler.core.message import MarketForeseen
from dsched.scheduler.core.timely.foresight import Foreseen, Request
from dsched.scheduler.engine.loop import Loop
from dsched.scheduler.engine.seer import LENGTH

PATIENCE: Final = 60.0  # seconds for one outlook; they take about one
# What a worker that hangs, ends or answers with rubbish raises; the last five come from an unreadable pickle.
FAULTS: Final = (
    *(TimeoutError, OSError, EOFError, asyncio.IncompleteReadError),
    *(pickle.PickleError, AttributeError, ImportError, IndexError, ValueError),
)
SINGLE: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # a second thread gains nothing and takes a core

log = structlog.get_logger()


class Foreseer:
    """Starts its process at the first request, and anew after a fault. The process ends with its parent."""

    def __init__(self, loop: Loop, journal: Path) -> None:
        self.made = self.failed = 0
        self._loop, self._journal = loop, journal
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def foresee(self, request: Request) -> None:
        """Post the outlook to the core, or that there is none."""
        found: Foreseen | None = None
        try:
            async with self._turn, asyncio.timeout(PATIENCE):
                found = Foreseen(request=request, outlook=await self.make(request))
            self.made += 1
        except FAULTS as error:
            self.failed += 1
            log.warning("foresee.failed", error=str(error) or type(error).__name__)
        self._loop.post(MarketForeseen(request=request, foreseen=found))

    async def remake(self, request: Request) -> Outlook:
        """For a question, not for the core. Raises as `make` does, and TimeoutError."""
        async with self._turn, asyncio.timeout(PATIENCE):
            return await self.make(request)

    async def make(self, request: Request) -> Outlook:
        """Raises OSError or IncompleteReadError when the process has ended."""
        try:
            return await self._answer(request)
        except BaseException:
            self._give_up()  # whoever does not wait for an answer would leave it to the next question
            raise

    async def _answer(self, request: Request) -> Outlook:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "dsched.scheduler.engine.seer"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, **SINGLE},
            )
        assert process.stdin is not None, "it was started with pipes"
        assert process.stdout is not None, "it was started with pipes"
        asked = pickle.dumps((request, str(self._journal)))
        process.stdin.write(LENGTH.pack(len(asked)) + asked)
        await process.stdin.drain()
        (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
        answer = await process.stdout.readexactly(length)
        made: Outlook = await asyncio.to_thread(pickle.loads, answer)
        return made

    def _give_up(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        self._process = None
