"""The market's own motion: take machines back when capacity goes, say when prices moved, play the script."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from dsched.providers.base import Invalid, Notice, NoticeKind
from dsched.providers.local.clock import wall_now
from dsched.providers.local.cloud import Cloud
from dsched.providers.local.levers import Cue, Levers
from dsched.scheduler.core.units import Millis

PRICES_EVERY: Final = Millis(200)  # between two PRICES hints: a fast market must not keep the daemon re-reading it
PAUSE_S_MIN: Final = 0.01
PAUSE_S_MAX: Final = 30.0  # looks at the wall clock again at least this often, in case it jumped

log = logging.getLogger(__name__)


class Trade:
    def __init__(self, cloud: Cloud, levers: Levers, script: Sequence[Cue], played: set[int]) -> None:
        self._cloud, self._levers = cloud, levers
        self._script = [cue for cue in script if cue.line not in played]
        self._told = cloud.market.state(cloud.clock.age(wall_now()))
        self._told_at = 0

    async def run(self) -> None:
        while True:
            self._cloud.changed.clear()
            waits = [self._play(), self._tell_prices()]
            self._cloud.take_back()
            age = self._cloud.clock.age(wall_now())
            waits.append(self._cloud.clock.wall_left(self._cloud.market.next(age), wall_now()))
            pause = min(PAUSE_S_MAX, max(PAUSE_S_MIN, min(waits)))
            await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        """Until something changed, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._cloud.changed.wait()
        except TimeoutError:
            pass

    def _tell_prices(self) -> float:
        """Hint when prices or capacity moved. Returns the seconds after which to come again."""
        wall = wall_now()
        state = self._cloud.market.state(self._cloud.clock.age(wall))
        if state == self._told:
            return PAUSE_S_MAX
        if (early := self._told_at + PRICES_EVERY - wall) > 0:
            return early / 1000
        self._told, self._told_at = state, wall
        self._cloud.hints.tell(Notice(kind=NoticeKind.PRICES))
        return PAUSE_S_MAX

    def _play(self) -> float:
        """Pull what is due. Returns the seconds until the next cue may be due."""
        wait, left = PAUSE_S_MAX, []
        for cue in self._script:
            due = self._due(cue)
            if due > 0:
                wait = min(wait, due)
                left.append(cue)
            else:
                self._pull(cue)
        self._script = left
        return wait

    def _due(self, cue: Cue) -> float:
        """Seconds until the cue can be played. One that needs a machine waits for it; its start will wake us."""
        clock, wall = self._cloud.clock, wall_now()
        if (early := clock.wall_left(cue.at, wall)) > 0 or cue.do not in ("interrupt", "fail", "rebalance"):
            return early
        machine = self._levers.victim(cue.what)
        if machine is None:
            return PAUSE_S_MAX
        ran = (clock.market(wall) - machine.launched) / clock.scale
        return max(0.0, (float(cue.what.get("age_ms", 0)) - ran) / 1000)

    def _pull(self, cue: Cue) -> None:
        self._cloud.log({"kind": "script", "line": cue.line})
        try:
            touched = self._levers.pull(cue.do, cue.what)
        except Invalid as problem:
            log.warning("script.refused line=%d problem=%s", cue.line, problem)
        else:
            log.info("script.played line=%d do=%s touched=%s", cue.line, cue.do, touched)
