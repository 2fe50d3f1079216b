"""What moto does not keep: capacity, prices, tokens, faults, and what has changed too lately to be listed."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

PRICE_MEMORY_S: Final = 90 * 86_400.0  # EC2 tells prices of 90 days


@dataclass
class Fault:
    """What the next calls of `action` meet. Without `code` and without `drop` they only take `delay_s` longer."""

    action: str  # "*": any
    code: str = ""
    message: str = ""
    status: int = 400
    times: int = 1
    delay_s: float = 0.0
    region: str = ""  # "": everywhere
    drop: str = ""  # "before" or "after" the effect: no answer
    after: int = 0  # so many calls go well first
    html: bool = False  # a proxy's page instead of an answer


@dataclass
class Prices:
    """Steps of one (type, zone name), oldest first."""

    at: list[float] = field(default_factory=list)  # seconds since the epoch
    usd: list[float] = field(default_factory=list)

    def now(self, when: float) -> float | None:
        place = bisect_right(self.at, when)
        return self.usd[place - 1] if place else None

    def add(self, at: float, usd: float) -> None:
        place = bisect_right(self.at, at)
        self.at.insert(place, at)
        self.usd.insert(place, usd)

    def told(self, since: float, until: float) -> list[tuple[float, float]]:
        """The steps between, and the one in force at `since`, as EC2 tells them."""
        ends = [*self.at[1:], float("inf")]
        return [(at, usd) for at, usd, end in zip(self.at, self.usd, ends, strict=True) if at <= until and end > since]


@dataclass
class Market:
    """All of it, behind one lock: RunInstances is one transaction."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    era: int = 0  # how often it was reset
    tokens: dict[tuple[str, str], tuple[str, list[str], Any]] = field(default_factory=dict)
    capacity: dict[tuple[str, str, str], int] = field(default_factory=dict)  # (type, zone, market) -> free; absent: any
    prices: dict[tuple[str, str], Prices] = field(default_factory=dict)  # (type, zone)
    on_demand: dict[tuple[str, str], float] = field(default_factory=dict)  # (type, region) -> USD
    scores: dict[str, int] = field(default_factory=dict)  # zone id -> 1..10
    quotas: dict[tuple[str, str], float] = field(default_factory=dict)  # (region, code) -> vCPUs
    reservations: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # region -> rows as EC2 names them
    blocks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # region -> offerings of capacity blocks
    reserved: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # region -> reserved instances
    plans: list[dict[str, Any]] = field(default_factory=list)  # savings plans
    placements: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)  # (region, name) -> as EC2 names it
    placed: dict[str, str] = field(default_factory=dict)  # instance -> its placement group
    faults: deque[Fault] = field(default_factory=deque)
    calls: list[tuple[float, str, str, str]] = field(default_factory=list)  # (at, region, service, action)
    lag_s: float = 0.0  # a new instance and an end stay unseen so long
    page: int = 0  # the most reservations of one page; 0: as asked
    changed: dict[str, tuple[float, str]] = field(default_factory=dict)  # instance -> (when, state before)
    taken: dict[str, float] = field(default_factory=dict)  # instance -> when it ends, since its warning

    def reset(self) -> None:
        """Back to an empty market, as a new account has it."""
        fresh = Market()
        self.era += 1
        for name in (
            "capacity",
            "prices",
            "on_demand",
            "scores",
            "quotas",
            "reservations",
            "blocks",
            "reserved",
            "plans",
            "placements",
            "placed",
        ):
            setattr(self, name, getattr(fresh, name))
        self.tokens.clear()
        self.changed.clear()
        self.taken.clear()
        self.faults, self.calls, self.lag_s, self.page = deque(), [], 0.0, 0

    def meet(self, action: str, region: str) -> Fault | None:
        for fault in self.faults:
            if fault.action not in (action, "*") or fault.region not in ("", region):
                continue
            if fault.after > 0:
                fault.after -= 1
                continue
            fault.times -= 1
            if fault.times <= 0:
                self.faults.remove(fault)
            return fault
        return None

    def price(self, shape: str, zone: str) -> float | None:
        steps = self.prices.get((shape, zone))
        return None if steps is None else steps.now(time.time())
