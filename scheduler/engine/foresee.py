"""Have outlooks made by a process of their own, and told to the core as a message."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from dsched.scheduler.core.message import MarketForeseen
from dsched.scheduler.engine.journal import Journal
from dsched.scheduler.engine.loop import Loop
from dsched.scheduler.engine.worker import FAULTS, Worker
from dsched.scheduler.log import log

if TYPE_CHECKING:
    from dsched.scheduler.core.deadline.outlook import Outlook
    from dsched.scheduler.core.timely.foresight import Foreseen, Request

PATIENCE: Final = 60.0  # seconds for one outlook; they take about one


class Foreseer:
    """Asks for one outlook after the other."""

    def __init__(self, loop: Loop, journal: Journal) -> None:
        self.made = self.failed = 0
        self.worker = Worker((sys.executable, "-m", "dsched.scheduler.engine.seer"), patience=PATIENCE)
        self._loop, self._journal = loop, journal

    async def foresee(self, request: Request) -> None:
        """Post the outlook to the core, or that there is none."""
        from dsched.scheduler.core.timely.foresight import Foreseen  # loaded by whoever made the request

        found: Foreseen | None = None
        try:
            found = Foreseen(request=request, outlook=await self.make(request))
            self.made += 1
        except FAULTS as error:
            self.failed += 1
            log.warning("foresee.failed", error=str(error) or type(error).__name__)
        self._loop.post(MarketForeseen(request=request, foreseen=found))

    async def make(self, request: Request) -> Outlook:
        """Also for a question that the core does not hear of. Raises one of worker.FAULTS.

        The worker reads the journal as far as the request's moment: all of it, or the same request made an hour later
        would give another outlook.
        """
        await self._journal.write()
        made: Outlook = await self.worker.ask((request, str(self._journal.folder)))
        return made
