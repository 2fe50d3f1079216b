"""Capacity that is held for us: reservations, capacity blocks and commitments, paid for whether they are used or not.

A hold is so many slots of reserved pools, for a time. Using a slot costs nothing more, so its marginal price is SUNK
until the slots are used up; what lies beyond them are the other offers, on-demand and spot: the step. The slots are
counted like a quota (quota.Left), by planner and checker alike. What the hold itself costs is booked by the hour, used
or not, to a budget of its own: a job's bill is what it costs more, with the on-demand price beside it as always.

A block ends. What ends first is used first, since it is lost otherwise; a job with a longer way to go leaves it in time
at a checkpoint, and a job whose deadline policy decides only goes where it can end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from dsched.scheduler.core.hardware import Shape
from dsched.scheduler.core.market import Market, Offer, Pool, Quote
from dsched.scheduler.core.units import MINUTE, Instant, MicroUsdPerHour, Millis, text

SUNK: Final = MicroUsdPerHour(1)  # a price of nothing would be the price of nobody
STEP: Final = 10  # micro-dollars per hour by which a hold that ends later is dearer: a thousandth of a cent
SUNK_MAX: Final = MicroUsdPerHour(1_000)  # what is below a tenth of a cent per hour is paid for already
LEAVE: Final = Millis(15 * MINUTE)  # market: a job leaves a hold so long before its end, at least
HANDS: Final = Millis(MINUTE)  # wall: for the checkpoint, the drain and the hands of both
BUDGET: Final = "held"  # what holds cost is nobody's job
KIND: Final = "hold"  # of ledger entries
AS: Final = "held as "  # how the source of a slot's price begins
ENDS: Final = "its hold ends"  # why a job moves off


class Hold(NamedTuple):
    """`limit` machines of the reserved pools whose "provider/zone/shape" matches the glob, from `start` to `end`."""

    name: str
    pattern: str  # "aws/use1-az4/p5*"
    limit: int  # machines
    price: MicroUsdPerHour  # each machine, used or not
    start: Instant | None = None  # market; None: since ever
    end: Instant | None = None  # market; None: for good

    def covers(self, pool: Pool) -> bool:
        return pool.market is Market.RESERVED and fnmatchcase(f"{pool.provider}/{pool.zone}/{pool.shape}", self.pattern)

    def takes(self, shape: Shape) -> int:
        """Slots that one machine uses; the same question as to a quota."""
        del shape
        return 1

    def at(self, now: Instant) -> bool:
        """Whether it is in force."""
        return (self.start is None or self.start <= now) and (self.end is None or now < self.end)


def in_force(holds: Sequence[Hold], now: Instant) -> tuple[Hold, ...]:
    return tuple(hold for hold in holds if hold.at(now))


def sunk(price: MicroUsdPerHour) -> bool:
    """Whether one machine at this price is paid for already."""
    return price < SUNK_MAX


def marginal(offer: Offer, holds: Sequence[Hold], now: Instant) -> Offer:
    """The offer at what using it costs more, where it is held; what ends first is the cheapest, by next to nothing."""
    if offer.pool.market is not Market.RESERVED:
        return offer
    order = sorted(in_force(holds, now), key=_end)
    for place, hold in enumerate(order):
        if hold.covers(offer.pool):
            source = f"{AS}{hold.name}: ${text(hold.price)}/h are paid in any case"
            quote = Quote(price=MicroUsdPerHour(SUNK + STEP * place), at=now, source=source)
            return replace(offer, quote=quote, until=hold.end)
    return offer


def _end(hold: Hold) -> tuple[bool, int, str]:
    return hold.end is None, hold.end or 0, hold.name


def lead(boot: Millis, restart: Millis, scale: float) -> Millis:
    """Market time before the end of a hold at which a job begins to leave it."""
    return max(LEAVE, Millis(round((boot + restart + HANDS) * scale)))


def least(boot: Millis, restart: Millis, scale: float) -> Millis:
    """Market time that must be left of a hold for a gang to go there: half of it is spent on leaving."""
    return Millis(2 * lead(boot, restart, scale))
