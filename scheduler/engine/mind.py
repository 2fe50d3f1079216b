"""The core with its state, and the one place where a message is handed to it: by the daemon's loop, by the simulator on
a virtual clock, and by the replay of what a daemon recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dsched.scheduler.core.draft import Dice
from dsched.scheduler.core.event import Event
from dsched.scheduler.core.message import Message
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.snapshot import State
from dsched.scheduler.core.step import Step, handle
from dsched.scheduler.core.terms import Terms
from dsched.scheduler.core.units import Moment


class Tap(Protocol):
    """Hears all that goes into the core, and all that it decides."""

    def told(self, state: State, message: Message, now: Moment) -> None:
        """Before the message is handled."""

    def decided(self, events: Sequence[Event]) -> None: ...


@dataclass(slots=True)
class Mind:
    """One state and what it is judged by. Nothing else may hand a message to this state."""

    state: State
    rng: Dice
    policy: Policy
    terms: Terms
    taps: tuple[Tap, ...] = ()

    def handle(self, message: Message, now: Moment) -> Step:
        """One message. Raises message.Refusal for a wish that cannot be granted; then nothing has changed."""
        for tap in self.taps:
            tap.told(self.state, message, now)
        step = handle(self.state, message, now, self.rng, self.policy, self.terms)
        for tap in self.taps:
            tap.decided(step.events)
        return step
