"""Predictions made and what became of them: will this machine be interrupted within the next market hour?

Once an hour for every spot machine that we hold. What happened goes into the market journal, from which it is read
again at the next start; predictions still open at a crash are lost, which favours neither side.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from dsched.scheduler.core.calibration import Calibration, Outcome, judge
from dsched.scheduler.core.event import Event
from dsched.scheduler.core.hazard import chance
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.sighting import Sight, Sighting
from dsched.scheduler.core.snapshot import Node, State
from dsched.scheduler.core.units import HOUR, Instant

AHEAD: Final = HOUR  # market: how far a prediction looks
KEPT: Final = 20_000  # outcomes: months of a small fleet, and a megabyte


@dataclass(frozen=True, slots=True)
class _Open:
    chance: float
    pool: str
    due: Instant


class Forecasts:
    """`look` predicts and settles, `hear` learns of interruptions; outcomes are told to `note`."""

    def __init__(self, note: Callable[[Sighting], None]) -> None:
        self._note = note
        self._open: dict[str, _Open] = {}
        self._outcomes: deque[Outcome] = deque(maxlen=KEPT)
        self._judged: Calibration | None = None

    def recall(self, sightings: Iterable[Sighting]) -> None:
        """Take in the outcomes of an earlier run."""
        for seen in sightings:
            if seen.kind is Sight.OUTCOME:
                self._outcomes.append(Outcome(seen.chance, seen.happened))
        self._judged = None

    def calibration(self) -> Calibration:
        if self._judged is None:
            self._judged = judge(self._outcomes)
        return self._judged

    def look(self, state: State, policy: Policy, now: Instant) -> None:
        for name, told in list(self._open.items()):
            node = state.nodes.get(name)
            if node is None or node.leaving:
                del self._open[name]  # we gave it back: nobody knows what would have been
            elif told.due <= now:
                self._settle(name, happened=False, at=now)
        for node in state.nodes.values():
            if node.id not in self._open and _ours(node):
                self._predict(state, node, policy, now)

    def hear(self, events: Iterable[Event]) -> None:
        for event in events:
            taken = event.data.get("first") if event.kind == "node.noticed" else event.data.get("taken")
            if event.kind in ("node.noticed", "node.gone") and taken and event.node in self._open:
                self._settle(event.node, happened=True, at=event.at.market)

    def _predict(self, state: State, node: Node, policy: Policy, now: Instant) -> None:
        offer = state.offers.get(node.pool.id)
        if offer is not None:
            memory, streak = state.pools.get(node.pool.id), state.streaks.get(node.pool.id)
            likely = chance(offer, memory, policy, streak=streak, now=now, hours=AHEAD / HOUR)
            self._open[node.id] = _Open(likely, node.pool.id, Instant(now + AHEAD))

    def _settle(self, name: str, *, happened: bool, at: Instant) -> None:
        told = self._open.pop(name)
        self._judged = None
        self._outcomes.append(Outcome(told.chance, happened))
        self._note(Sighting(at=at, kind=Sight.OUTCOME, pool=told.pool, chance=told.chance, happened=happened))


def _ours(node: Node) -> bool:
    spot = node.pool.market is Market.SPOT
    return spot and node.launched is not None and node.notice is None and not node.leaving
