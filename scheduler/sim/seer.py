"""The worker of a simulated daemon: it remembers what the core saw of the market, and makes outlooks of it on demand.

What the daemon keeps in its market journal is kept in memory here, sighting by sighting; the outlook is made by the
same functions, so it is the one that a daemon with this past would get.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dsched.scheduler.core.deadline.outlook import Library
from dsched.scheduler.core.event import Event
from dsched.scheduler.core.message import MarketForeseen, Message, OffersSeen
from dsched.scheduler.core.sighting import Sighting, heard, quoted, watched
from dsched.scheduler.core.snapshot import State
from dsched.scheduler.core.timely.foresight import PAST, Foreseen, Request, outlook
from dsched.scheduler.core.trace import GAP, traces
from dsched.scheduler.core.units import MINUTE, SECOND, Instant, Millis, Moment

WATCH: Final = Millis(5 * MINUTE)  # as often as the journal notes that there was no news
TAKES: Final = Millis(2 * SECOND)  # from the request to its answer


class Seer:
    """A tap of the mind, too: it hears what the journal hears."""

    def __init__(self) -> None:
        self.made = 0
        self._library = Library()
        self._past: list[Sighting] = []
        self._quotes: dict[str, Sighting] = {}
        self._watched: dict[str, Instant] = {}
        self._told: tuple[int, Instant, Sequence[Mapping[str, Any]]] = (-1, Instant(0), ())  # the traces of one tick

    def told(self, state: State, message: Message, now: Moment) -> None:
        if not isinstance(message, OffersSeen):
            return
        for offer in message.offers:
            known, seen = self._quotes.get(offer.pool.id), quoted(offer, now.market)
            if seen is not None and (known is None or _news(known) != _news(seen)):
                self._quotes[offer.pool.id] = seen
                self._past.append(seen)
        if now.market - self._watched.get(message.provider, Instant(-WATCH)) >= WATCH:
            self._watched[message.provider] = now.market
            self._past.append(watched(state, message.provider, now.market))

    def decided(self, events: Sequence[Event]) -> None:
        for event in events:
            self._past.extend(heard(event))

    def answer(self, request: Request) -> MarketForeseen:
        """The outlook at the request's moment."""
        self.made += 1
        tick = request.made // GAP
        if self._told[0] != tick:  # classes ask together, at the epochs that they share
            self._told = (tick, *self._traces(request.made))
        _, begin, found = self._told
        made = outlook(request, found, self._library, begin=begin, gap=GAP / SECOND)
        return MarketForeseen(request=request, foreseen=Foreseen(request=request, outlook=made))

    def _traces(self, made: Instant) -> tuple[Instant, Sequence[Mapping[str, Any]]]:
        since = Instant(int(made - PAST * SECOND) // GAP * GAP)
        past = self._past = self._past[bisect_left(self._past, since, key=lambda seen: seen.at) :]
        begin = Instant((past[0].at if past and past[0].at < made else made) // GAP * GAP)
        return begin, traces(past, gap=GAP, begin=begin, end=made) if past else []


def _news(seen: Sighting) -> tuple[object, ...]:
    return seen.price, seen.free, seen.on_demand
