"""Have puzzles solved by a process of its own: one at a time, asked over a pipe, answered to the core as a message."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from collections.abc import Sequence
from typing import Final

import structlog

from dsched.scheduler.core.message import Proposed
from dsched.scheduler.core.proposal import Puzzle
from dsched.scheduler.engine.foresee import SINGLE
from dsched.scheduler.engine.loop import Loop
from dsched.scheduler.engine.seer import LENGTH

PATIENCE: Final = 10.0  # seconds for one puzzle, the start of the process included
WORKER: Final = (sys.executable, "-m", "dsched.scheduler.engine.solver")

log = structlog.get_logger()


class Proposer:
    """Starts its process at the first puzzle, and anew after a fault. The process ends with its parent."""

    def __init__(self, loop: Loop, *, worker: Sequence[str] = WORKER, patience: float = PATIENCE) -> None:
        self.made = self.failed = 0
        self._loop, self._worker, self._patience = loop, worker, patience
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def propose(self, puzzle: Puzzle) -> None:
        """Post the choice to the core. Where there is none the core does not wait for long."""
        if self._turn.locked():
            return  # it is busy with an older puzzle; the greedy plan will do
        try:
            async with self._turn, asyncio.timeout(self._patience):
                choice = await self._ask(puzzle)
        except (TimeoutError, OSError, EOFError, asyncio.IncompleteReadError) as error:
            self.failed += 1
            await self.close()
            log.warning("propose.failed", error=str(error) or type(error).__name__)
            return
        self.made += 1
        self._loop.post(Proposed(id=puzzle.id, choice=choice))

    async def _ask(self, puzzle: Puzzle) -> tuple[tuple[str, str], ...]:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await asyncio.create_subprocess_exec(
                *self._worker,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, **SINGLE},
            )
        assert process.stdin is not None, "it was started with pipes"
        assert process.stdout is not None, "it was started with pipes"
        asked = pickle.dumps(puzzle)
        process.stdin.write(LENGTH.pack(len(asked)) + asked)
        await process.stdin.drain()
        (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
        choice: tuple[tuple[str, str], ...] = pickle.loads(await process.stdout.readexactly(length))  # noqa: S301
        return choice

    async def close(self) -> None:
        """End the process; the next puzzle starts another."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()
