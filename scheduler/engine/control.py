"""The face of the running daemon for the API: messages in, state to read, dry runs, health."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

from dsched.scheduler.core import placing
from dsched.scheduler.core.draft import Dice
from dsched.scheduler.core.job import Spec
from dsched.scheduler.core.message import Message
from dsched.scheduler.core.report import to_wire
from dsched.scheduler.core.snapshot import Job, State
from dsched.scheduler.core.state import JobState, NodeState
from dsched.scheduler.core.units import Instant, Moment, text
from dsched.scheduler.core.whatif import Change
from dsched.scheduler.engine.loop import Loop
from dsched.scheduler.engine.observe import Observer
from dsched.scheduler.wire.api import Health, Plan


class Control:
    """Implements the API's Control."""

    def __init__(self, loop: Loop, observers: Mapping[str, Observer], rng: Dice) -> None:
        self._loop, self._observers, self._rng = loop, observers, rng
        self.seq = 0
        self.market_note = ""
        self.ready = False

    @property
    def state(self) -> State:
        return self._loop.state

    @property
    def scale(self) -> float:
        return self._loop.state.scale

    def now(self) -> Moment:
        return self._loop.clock.now()

    async def send(self, message: Message) -> Any:
        return await self._loop.send(message)

    def dry_run(self, spec: Spec, changes: Sequence[Change] = ()) -> Plan:
        now = self.now()
        job = Job(id="", key="", spec=spec, state=JobState.QUEUED, submitted=now)
        report, more = placing.dry_run(self.state, job, self._loop.policy, now, self._rng, changes)
        return cast(Plan, {**to_wire(report, name=spec.name), **more})

    def health(self) -> Health:
        now = self.now()
        state, quoted = self.state, self._quoted(now)
        return Health(
            version=_version(),
            pid=os.getpid(),
            wall=now.wall,
            market=now.market,
            scale=self.scale,
            seq=self.seq,
            jobs={str(name): count for name, count in Counter(job.state for job in state.jobs.values()).items()},
            providers={name: self._provider(observer, now, quoted) for name, observer in self._observers.items()},
            market_note=self.market_note,
            burn=text(sum(node.rate for node in state.nodes.values() if node.launched is not None)),
            ready=self.ready,
        )

    def _provider(self, observer: Observer, now: Moment, quoted: Mapping[str, tuple[Instant, int]]) -> dict[str, Any]:
        """An answer is as old as its newest quote: a provider may repeat what it knew before."""
        newest, stale = quoted.get(observer.name, (now.market, 0))
        age = None if observer.priced is None else max(now.wall - observer.priced, (now.market - newest) / self.scale)
        nodes = [n for n in self.state.nodes.values() if n.pool.provider == observer.name]
        return {
            "ok": not observer.fault,
            "why": observer.fault,
            "prices_age_s": None if age is None else age / 1000,
            "stale": stale,
            "ailing": dict(observer.ailing),
            "nodes": sum(node.state is not NodeState.REQUESTED for node in nodes),
        }

    def _quoted(self, now: Moment) -> dict[str, tuple[Instant, int]]:
        """Provider -> its newest quote (market), and how many of its quotes are too old to buy by."""
        found: dict[str, tuple[Instant, int]] = {}
        policy = self._loop.policy
        for offer in self.state.offers.values():
            if offer.quote is not None:
                newest, stale = found.get(offer.pool.provider, (Instant(0), 0))
                old = now.market - offer.quote.at > policy.stale_in(offer.pool.market)
                found[offer.pool.provider] = max(newest, offer.quote.at), stale + old
        return found


@cache
def _version() -> str:
    try:
        return version("dsched")
    except PackageNotFoundError:
        return "checkout"
