"""A daemon without sockets and threads: the production core and store, on a virtual clock, in memory.

Every message is one durable transaction, as in the loop of the real daemon: events are written to the tables of the
real schema before an effect is handed on or an answer given. A crash forgets everything but the store, exactly: there
is no code that a killed process would still run.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from random import Random
from typing import Any, Final

from dsched.scheduler.core.effect import Effect
from dsched.scheduler.core.message import Message, Place, Restarted
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.snapshot import State
from dsched.scheduler.core.terms import Terms
from dsched.scheduler.core.units import Millis
from dsched.scheduler.engine.mind import Mind, Tap
from dsched.scheduler.sim.clock import Agenda
from dsched.scheduler.store.log import Log
from dsched.scheduler.store.snapshot import load

PASSES_MAX: Final = 100  # at one instant: a storm's handful of jobs needs two or three
BREATH: Final = Millis(2)  # between passes of the planner, as in the loop


class Away(Exception):
    """The daemon is dead: whoever called tries again later."""


class Daemon:
    """`carry` is called with each effect once its transaction is written.

    `patient`: the planner looks after all that is told at an instant, as after a batch of the loop; else after each.
    """

    def __init__(
        self,
        agenda: Agenda,
        seed: int,
        *,
        policy: Policy,
        terms: Terms,
        carry: Callable[[Effect], None],
        taps: tuple[Tap, ...] = (),
        patient: bool = True,
    ) -> None:
        self.agenda, self.carry, self.patient = agenda, carry, patient
        self.up = True
        self.epoch = 0  # incarnations before this one: what an older one had under way is nobody's any more
        self.log = Log.in_memory()
        cluster = blake2b(f"{seed}".encode(), digest_size=16).hexdigest()
        self.log.connection.execute("UPDATE meta SET value = ? WHERE key = 'cluster'", (cluster,))
        self.mind = Mind(self._read(), Random(f"{seed}/daemon"), policy, terms, taps)  # noqa: S311 - jitter, no secret
        self._placing = False

    @property
    def state(self) -> State:
        return self.mind.state

    def tell(self, message: Message) -> Any:
        """The core's answer, once it is durable. Raises Refusal, or Away."""
        if not self.up:
            raise Away
        answer = self._handle(message)
        if not self.patient:
            self._rest()
        elif self.state.dirty and not self._placing:
            self._placing = True
            self.agenda.at(self.agenda.now.wall, self._place, self.epoch)
        return answer

    def crash(self) -> None:
        """Killed: the memory is gone, and with it what was under way."""
        self.up, self._placing = False, False
        self.epoch += 1

    def start(self) -> None:
        """Begin anew from what the store holds; `Restarted` is told after the providers were looked at."""
        self.mind.state = self._read()
        self.up = True

    def restarted(self) -> None:
        self.tell(Restarted())

    def _read(self) -> State:
        state = load(self.log.connection)
        state.scale = self.agenda.scale
        return state

    def _place(self, epoch: int) -> None:
        if epoch != self.epoch:
            return
        self._placing = False
        if self.state.dirty:
            self._handle(Place())
        if self.state.dirty:
            self._placing = True
            self.agenda.after(BREATH, self._place, epoch)

    def _rest(self) -> None:
        """Plan until there is nothing to plan. Raises RuntimeError for a planner that never comes to rest."""
        for _ in range(PASSES_MAX):
            if not self.state.dirty:
                return
            self._handle(Place())
        raise RuntimeError(f"{PASSES_MAX} passes at one instant: the planner never comes to rest")

    def _handle(self, message: Message) -> Any:
        step = self.mind.handle(message, self.agenda.now)
        if step.events:
            self.log.append(step.events)
        for effect in step.effects:
            self.carry(effect)
        return step.answer
