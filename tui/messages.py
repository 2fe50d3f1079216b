"""What the feed tells the app. Rows travel in the feed's own `News`, so a slow loop never queues them twice."""

from __future__ import annotations

from textual.message import Message

from dsched.scheduler.wire.api import Attempt, Event, Money, Offer


class Fed(Message):
    """News waits to be taken."""


class Linked(Message):
    """The connection changed: live, lost, or a new latency."""


class MoneyCame(Message):
    def __init__(self, money: Money) -> None:
        super().__init__()
        self.money = money


class HistoryCame(Message):
    """Offers with the last day's prices."""

    def __init__(self, offers: list[Offer]) -> None:
        super().__init__()
        self.offers = offers


class StoryCame(Message):
    """What the detail of one job needs and the feed does not carry."""

    def __init__(self, job_id: str, attempts: list[Attempt], events: list[Event]) -> None:
        super().__init__()
        self.job_id, self.attempts, self.events = job_id, attempts, events
