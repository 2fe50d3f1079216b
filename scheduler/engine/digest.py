"""A digest of everything that the core decided: two runs with the same digest decided the same, to the last field."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from dsched.scheduler.core.event import Event
from dsched.scheduler.core.message import Message
from dsched.scheduler.core.snapshot import State
from dsched.scheduler.core.units import Moment

SIZE: Final = 16  # bytes: no two runs of anybody's will share one by chance

_encoder: Final = msgspec.json.Encoder()


class Digest:
    """A tap of the mind: blake2b over every event, its moment, its reason and all that it changed, in order."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=SIZE)
        self.events = 0

    def told(self, state: State, message: Message, now: Moment) -> None:
        """Only what is decided counts."""

    def decided(self, events: Sequence[Event]) -> None:
        for event in events:
            changes = [(change.table, change.key, change.fields, change.new) for change in event.changes]
            head = (event.kind, event.at.wall, event.at.market, event.job, event.node, event.why)
            self._hash.update(_encoder.encode((head, changes, event.data)))
        self.events += len(events)

    @property
    def text(self) -> str:
        return self._hash.hexdigest()
