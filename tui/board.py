"""The client's copy of what the daemon knows, kept by applying news to it.

News is coalesced while nobody looks (a busy loop, a frozen screen): of each row only the newest version is kept,
so what waits is never larger than the fleet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from dsched.scheduler.core.units import Instant, Moment
from dsched.scheduler.wire.api import Event, Feed, Health, Job, Money, Offer

EVENTS_MAX: Final = 2_000  # kept for the Events tab; older ones are in `dsched events`
BURN_MAX: Final = 120  # samples of the burn's line: two minutes at one a second


@dataclass(slots=True)
class News:
    """Feed messages that were not applied yet, merged."""

    snapshot: bool = False
    jobs: dict[str, Job] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    offers: dict[str, Offer] = field(default_factory=dict)
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=EVENTS_MAX))
    health: Health | None = None

    def add(self, feed: Feed, *, snapshot: bool) -> None:
        if snapshot:
            self.snapshot = True
            self.jobs.clear()
            self.gone.clear()
            self.offers.clear()
        for job in feed["jobs"]:
            self.jobs[job["id"]] = job
            self.gone.discard(job["id"])
        for job_id in feed["gone"]:
            self.gone.add(job_id)
            self.jobs.pop(job_id, None)
        for offer in feed["offers"]:
            self.offers[offer["id"]] = offer
        self.events.extend(feed["events"])
        self.health = feed["health"]


@dataclass(slots=True)
class Changed:
    """What an application of news touched; `whole` after a snapshot."""

    whole: bool = False
    jobs: list[str] = field(default_factory=list)
    offers: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)


class Board:
    """Rows by id. A row is replaced, never changed, so that who kept one can tell by identity."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.offers: dict[str, Offer] = {}
        self.events: dict[str, Event] = {}  # by sequence number as text, oldest first
        self.health: Health | None = None
        self.heard: Instant = Instant(0)  # our wall clock when `health` came
        self.money: Money | None = None
        self.burn: deque[float] = deque(maxlen=BURN_MAX)
        self._sampled = float("-inf")
        self.interruptions = self.moves = 0  # over the jobs shown

    @property
    def known(self) -> bool:
        return self.health is not None

    def moment(self, wall: Instant) -> Moment:
        """Now on the daemon's clocks: its last word and the time since."""
        if self.health is None:
            return Moment(wall, wall)
        since = wall - self.heard
        return Moment(
            Instant(self.health["wall"] + since), Instant(self.health["market"] + int(since * self.health["scale"]))
        )

    def apply(self, news: News, wall: Instant) -> Changed:
        changed = Changed(whole=news.snapshot)
        if news.health is not None:
            self.health, self.heard = news.health, wall
        if news.snapshot:
            self.jobs.clear()
            self.interruptions = self.moves = 0
        for job_id, row in news.jobs.items():
            self._count(self.jobs.get(job_id), row)
            self.jobs[job_id] = row
        for job_id in news.gone:
            self._count(self.jobs.pop(job_id, None), None)
        changed.jobs = [*news.jobs, *news.gone]
        self._offers(news, changed)
        self._events(news, changed)
        return changed

    def learn_history(self, offers: Iterable[Offer]) -> list[str]:
        """Take the day's lines from a full answer; prices come by the feed."""
        changed = []
        for told in offers:
            known = self.offers.get(told["id"])
            if known is not None and told["history"] != known["history"]:
                self.offers[told["id"]] = known | {"history": told["history"]}
                changed.append(told["id"])
        return changed

    def sample_burn(self, now: float) -> None:
        """`now` is monotonic; at most once a second."""
        if self.health is not None and now - self._sampled >= 1.0:
            self._sampled = now
            self.burn.append(float(self.health["burn"]))

    def _count(self, old: Job | None, new: Job | None) -> None:
        if old is not None:
            self.interruptions -= old["interruptions"]
            self.moves -= old["moves"]
        if new is not None:
            self.interruptions += new["interruptions"]
            self.moves += new["moves"]

    def _offers(self, news: News, changed: Changed) -> None:
        old = dict(self.offers) if news.snapshot else self.offers
        if news.snapshot:
            self.offers.clear()
        for offer_id, offer in news.offers.items():
            before = old.get(offer_id)
            if not offer["history"] and before is not None:
                offer["history"] = before["history"]  # deltas come without the day's line
            self.offers[offer_id] = offer
            changed.offers.append(offer_id)

    def _events(self, news: News, changed: Changed) -> None:
        for event in news.events:
            key = str(event["seq"])
            self.events[key] = event
            changed.events.append(key)
        while len(self.events) > EVENTS_MAX:
            oldest = next(iter(self.events))
            del self.events[oldest]
            changed.events.append(oldest)
