"""Have puzzles solved by a process of their own, and the choice told to the core as a message."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from dsched.scheduler.core.message import Proposed
from dsched.scheduler.core.proposal import Puzzle
from dsched.scheduler.engine.loop import Loop
from dsched.scheduler.engine.worker import FAULTS, Worker
from dsched.scheduler.log import log

PATIENCE: Final = 10.0  # seconds for one puzzle, the start of the process included
IDLE: Final = 60.0  # seconds: a queue that competes mostly does so again soon, and the process takes 60 MiB
SOLVER: Final = (sys.executable, "-m", "dsched.scheduler.engine.solver")


class Proposer:
    """Asks about one puzzle at a time; where another comes meanwhile the greedy plan will do."""

    def __init__(
        self, loop: Loop, *, worker: Sequence[str] = SOLVER, patience: float = PATIENCE, idle: float = IDLE
    ) -> None:
        self.made = self.failed = 0
        self.worker = Worker(worker, patience=patience, idle=idle)
        self._loop = loop

    async def propose(self, puzzle: Puzzle) -> None:
        """Post the choice to the core. Where there is none the core does not wait for long."""
        if self.worker.busy:
            return
        try:
            choice = _choice(await self.worker.ask(puzzle))
        except FAULTS as error:
            self.failed += 1
            log.warning("propose.failed", error=str(error) or type(error).__name__)
            return
        self.made += 1
        self._loop.post(Proposed(id=puzzle.id, choice=choice))


def _choice(answer: object) -> tuple[tuple[str, str], ...]:
    """The answer as pairs of job and pool. Raises ValueError for anything else."""
    pairs = answer if isinstance(answer, tuple) else (None,)
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(name, str) for name in pair)):
            raise ValueError("the solver's answer is no choice")
    return pairs
