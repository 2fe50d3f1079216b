"""The loop: messages in, one durable transaction per batch, effects out. It wakes on messages and never polls.

    inbox -> handle (pure) -> commit (group commit in the store's writer thread) -> publish, effects, answers

The state in memory may be ahead of the disk, but nobody outside learns of it: events are published,
effects carried out and answers given only once their transaction is durable, in order. When a commit
fails the daemon ends; it starts again from what is on disk.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from dsched.scheduler.core.draft import Dice
from dsched.scheduler.core.effect import Effect
from dsched.scheduler.core.event import Event
from dsched.scheduler.core.message import ClockJumped, Message, Place, Refusal
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.snapshot import State
from dsched.scheduler.core.terms import Terms
from dsched.scheduler.engine.clock import Clock
from dsched.scheduler.engine.mind import Mind
from dsched.scheduler.engine.pace import Pace
from dsched.scheduler.log import log

BATCH: Final = 512  # messages per transaction: a commit of this size stays in the low milliseconds
TURN_SECONDS: Final = 0.02  # the core thinks so long, then the event loop gets its turn: readers wait no longer
BREATH_SECONDS: Final = 0.002  # between passes of the planner when one is not enough, and while one is put off
FLIGHTS: Final = 64  # transactions on their way to disk; beyond that the loop waits for the disk


class Ledger(Protocol):
    """What the loop needs of the store."""

    def commit(self, events: Sequence[Event]) -> asyncio.Future[int]: ...


@dataclass(slots=True)
class _Flight:
    durable: asyncio.Future[int] | None  # None: nothing changed
    events: list[Event]
    effects: list[Effect]
    answers: list[tuple[asyncio.Future[Any], Any]]

    @property
    def carries(self) -> bool:
        return bool(self.events or self.effects or self.answers)


class Loop:
    """Owns the state; everything else sends it messages."""

    def __init__(
        self,
        state: State,
        store: Ledger,
        clock: Clock,
        rng: Dice,
        *,
        policy: Policy,
        terms: Terms,
        publish: Callable[[Sequence[tuple[int, Event]]], None],
        carry: Callable[[Sequence[Effect]], None],
    ) -> None:
        self.clock = clock
        self.mind = Mind(state, rng, policy, terms)
        self.faults = 0  # messages that broke the core: a bug each, counted for metrics and doctor
        self.pace = Pace()
        self._store = store
        self._publish, self._carry = publish, carry
        self._inbox: deque[tuple[Message, asyncio.Future[Any] | None]] = deque()
        self._wake = asyncio.Event()
        self._flights: asyncio.Queue[_Flight] = asyncio.Queue(FLIGHTS)

    @property
    def state(self) -> State:
        return self.mind.state

    @property
    def policy(self) -> Policy:
        return self.mind.policy

    @property
    def terms(self) -> Terms:
        return self.mind.terms

    def post(self, message: Message) -> None:
        """Tell the core something; nobody waits for an answer."""
        self._inbox.append((message, None))
        self._wake.set()

    async def send(self, message: Message) -> Any:
        """The core's answer, once it is durable. Raises core.message.Refusal; then nothing has changed."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._inbox.append((message, answer))
        self._wake.set()
        return await answer

    async def run(self) -> None:
        """Until cancelled, or until the store fails (raises its error)."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._think())
            group.create_task(self._deliver())

    async def _think(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._inbox or self.state.dirty:
                if (flight := self._batch()).carries:
                    await self._flights.put(flight)
                if self._inbox or self.state.dirty:
                    # a put that need not wait lets nobody else run; an answer takes several turns of the event loop
                    await asyncio.sleep(BREATH_SECONDS if self.state.dirty else 0)

    def _batch(self) -> _Flight:
        flight = _Flight(None, [], [], [])
        now = self.clock.now()
        until = time.monotonic() + TURN_SECONDS
        if (jump := self.clock.jumped()) is not None:  # before any message that would judge by the new time
            log.warning("clock.jumped", set_by_ms=jump.set_by, slept_ms=jump.slept, held_until=jump.held)
            self._handle(ClockJumped(set_by=jump.set_by, slept=jump.slept, held=jump.held), now, flight)
        for _ in range(min(BATCH, len(self._inbox))):
            message, answer = self._inbox.popleft()
            result = self._handle(message, now, flight)
            if answer is not None:
                flight.answers.append((answer, result))
            if time.monotonic() > until:
                break
        self.pace.owed += len(flight.answers)
        if self.state.dirty and self.pace.due(began := time.monotonic()):
            self._handle(Place(), now, flight)
            self.pace.passed(time.monotonic() - began)
        if flight.events:
            flight.durable = self._store.commit(flight.events)
        return flight

    def _handle(self, message: Message, now: Any, flight: _Flight) -> Any:
        try:
            step = self.mind.handle(message, now)
        except Refusal as refusal:
            return refusal
        except Exception as fault:  # the outermost loop: nothing changed, the next message may be sound
            self.faults += 1
            if isinstance(message, Place):
                self.state.dirty = False  # at once again it would fail again
            log.exception("core.fault", message=type(message).__name__)
            return fault
        flight.events += step.events
        flight.effects += step.effects
        return step.answer

    async def _deliver(self) -> None:
        while True:
            flight = await self._flights.get()
            if flight.durable is not None:
                last = await flight.durable
                self._publish(list(enumerate(flight.events, start=last - len(flight.events) + 1)))
            self._carry(flight.effects)
            self.pace.owed -= len(flight.answers)
            for answer, result in flight.answers:
                if answer.done():
                    continue  # the asker has gone
                if isinstance(result, Exception):
                    answer.set_exception(result)
                else:
                    answer.set_result(result)
