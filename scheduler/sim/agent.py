"""An agent as the daemon meets it: which ranks it runs, which orders it obeys, what it reports. It knows no time and no
dice: whoever plays it decides when it acts and how its ranks end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from dsched.scheduler.core.effect import TellLeave, TellStart, TellStop
from dsched.scheduler.core.message import AgentHello, Group, RanksExited

Key = tuple[str, int]  # a job and its generation
Order = TellStart | TellStop | TellLeave

RUNNING: Final = "running"
STOPPING: Final = "stopping"


class Ended(NamedTuple):
    """How the ranks of a generation ended here."""

    code: int | None  # of each of them; None: none of them ever ran
    drained: bool


@dataclass(slots=True)
class Agent:
    """One start of one agent after another on one node."""

    node: str
    boots: int = 0  # starts before this one
    leaving: bool = False
    noticed: bool = False  # it drains, and takes nothing new
    top: dict[str, int] = field(default_factory=dict)  # job -> newest generation ordered here
    places: dict[Key, tuple[int, ...]] = field(default_factory=dict)  # -> its ranks here
    ranks: dict[Key, str] = field(default_factory=dict)  # alive: RUNNING or STOPPING
    exits: dict[Key, Ended] = field(default_factory=dict)  # not reported yet
    told: set[Key] = field(default_factory=set)  # whose start was reported

    def obey(self, order: Order) -> bool:
        """Whether it changes anything here: orders may be repeated, and may be older than what is here already."""
        match order:
            case TellStart():
                return self._start(order)
            case TellStop():
                return self._stop(order)
            case TellLeave():
                self.leaving = True
                return self.drain()

    def drain(self) -> bool:
        """Every rank is to save and leave. False when none has to be told."""
        running = [key for key, at in self.ranks.items() if at == RUNNING]
        for key in running:
            self.ranks[key] = STOPPING
        return bool(running)

    def end(self, key: Key, code: int, *, drained: bool) -> None:
        """Its ranks of this generation are gone and reaped."""
        del self.ranks[key]
        self.exits[key] = Ended(code, drained)

    def die(self) -> set[Key]:
        """The agent and its ranks are killed; what it had to report is lost. Returns the generations that it breaks."""
        broken = set(self.ranks)
        for known in (self.ranks, self.exits, self.top, self.places):
            known.clear()
        self.told.clear()
        return broken

    def hello(self) -> AgentHello:
        """Its first word in a session: what runs here, and what ended unheard."""
        groups = [Group(job=job, generation=generation, state=at) for (job, generation), at in self.ranks.items()]
        groups += [
            Group(
                job=job, generation=generation, state="exited", exits=self._codes((job, generation), drained_too=False)
            )
            for job, generation in self.exits
        ]
        return AgentHello(node=self.node, boot=f"b{self.boots}", running=tuple(groups))

    def exited(self, key: Key) -> RanksExited:
        """The report of an end; it stays to be reported until `reported`."""
        job, generation = key
        return RanksExited(
            node=self.node,
            job=job,
            generation=generation,
            exits=self._codes(key, drained_too=True),
            drained=self.exits[key].drained,
        )

    def reported(self, key: Key) -> None:
        self.exits.pop(key, None)

    def unreported(self) -> Iterator[Key]:
        """Generations that began here, and nobody has been told."""
        return (key for key, at in self.ranks.items() if at == RUNNING and key not in self.told)

    def _start(self, order: TellStart) -> bool:
        job, generation = key = order.job, order.generation
        if self.leaving or self.noticed or generation <= self.top.get(job, 0):
            return False
        if any(name == job for name, _ in self.ranks):
            return False  # the older one still ends; the next comparison orders again
        self.top[job] = generation
        self.places[key] = order.ranks
        self.ranks[key] = RUNNING
        self.exits.pop(key, None)
        return True

    def _stop(self, order: TellStop) -> bool:
        job, newest = key = order.job, order.generation
        self.top[job] = max(self.top.get(job, 0), newest)
        stopping = [k for k, at in self.ranks.items() if k[0] == job and k[1] <= newest and at == RUNNING]
        for each in stopping:
            self.ranks[each] = STOPPING
        if key in self.ranks:
            return bool(stopping)
        if key not in self.exits:  # it never came here, or has been reported: then once more does no harm
            self.exits[key] = Ended(None, drained=True)
        return True

    def _codes(self, key: Key, *, drained_too: bool) -> dict[str, int]:
        code, drained = self.exits[key]
        if code is None or (drained and not drained_too):
            return {}
        return {str(rank): code for rank in self.places.get(key, ())}
