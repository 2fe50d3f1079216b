"""Quantities with their unit in the type.

Money is a whole number of micro-dollars (1 USD = 1,000,000), so ledgers add up exactly and a price can never be NaN or
"0.0 because it is unknown". Time is a whole number of milliseconds, always passed in.

There are two clocks. *Wall* time carries what keeps machines honest: leases, heartbeats, back-off.
*Market* time carries what belongs to the market: prices, capacity, interruptions, billing, deadlines.
On real clouds the two are equal; the embedded cloud runs its market faster by one scale factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NewType

MicroUsd = NewType("MicroUsd", int)  # an amount
MicroUsdPerHour = NewType("MicroUsdPerHour", int)  # a price: one instance, not one GPU
Charge = NewType("Charge", int)  # exact spend: micro-dollars per hour x milliseconds; divide only to report
Instant = NewType("Instant", int)  # milliseconds since the Unix epoch
Millis = NewType("Millis", int)  # a duration

SECOND: Final = Millis(1_000)
MINUTE: Final = Millis(60_000)
HOUR: Final = Millis(3_600_000)
MICRO: Final = 1_000_000


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """Now, on both clocks."""

    wall: Instant
    market: Instant


def price(usd_per_hour: str | int | float | Decimal) -> MicroUsdPerHour:
    """Read a price in dollars per hour. Raises ValueError for what is not a finite number >= 0."""
    return MicroUsdPerHour(_micro(usd_per_hour))


def usd(amount: str | int | float | Decimal) -> MicroUsd:
    """Read an amount in dollars. Raises ValueError for what is not a finite number >= 0."""
    return MicroUsd(_micro(amount))


def charge(rate: MicroUsdPerHour, lasting: Millis) -> Charge:
    """What `lasting` at `rate` costs, exactly."""
    return Charge(rate * lasting)


def reserve(rate: MicroUsdPerHour, lasting: Millis) -> Charge:
    """The charge to set aside before spending; never negative."""
    return Charge(rate * max(0, lasting))


def to_micro_usd(owed: Charge) -> MicroUsd:
    """The amount of an exact charge, rounded up so that rounding never hides a cent."""
    return MicroUsd(-(-owed // HOUR))


def to_charge(amount: MicroUsd) -> Charge:
    """An amount (a limit, say) in the exact unit, to compare without dividing."""
    return Charge(amount * HOUR)


def text(amount: int) -> str:
    """Micro-dollars as a decimal string, for JSON: "12.345678" without trailing zeros, at least two decimals."""
    sign, rest = ("-", -amount) if amount < 0 else ("", amount)
    whole, micro = divmod(rest, MICRO)
    return f"{sign}{whole}.{f'{micro:06d}'.rstrip('0'):0<2}"


def _micro(value: str | int | float | Decimal) -> int:
    try:
        number = Decimal(str(value))
    except ArithmeticError:
        raise ValueError(f"not an amount of dollars: {value!r}") from None
    if not number.is_finite() or number < 0:
        raise ValueError(f"not an amount of dollars: {value!r}")
    return int((number * MICRO).to_integral_value())
