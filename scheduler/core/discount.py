"""Private discounts: what our contract takes off the list, applied where prices come in, so that all else agrees.

A spot or list price becomes ours before anything reads it: ranking, reservation, ledger and the saving all speak of
money that we owe. Only a launch's price limit goes back to the list, since the provider knows no other price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import NamedTuple

from dsched.scheduler.core.market import Market, Offer, Pool
from dsched.scheduler.core.units import MicroUsdPerHour


class Discount(NamedTuple):
    """Of pools whose "provider/shape/market" matches the glob. The first match holds."""

    pattern: str  # "aws/p5*/on-demand"
    factor: float  # of the list price, above 0 and at most 1


def factor(discounts: Sequence[Discount], pool: Pool, market: Market) -> float:
    """What of the list price we pay for this pool's shape in this market."""
    name = f"{pool.provider}/{pool.shape}/{market}"
    return next((d.factor for d in discounts if fnmatchcase(name, d.pattern)), 1.0)


def discounted(offer: Offer, discounts: Sequence[Discount]) -> Offer:
    """The offer at our prices, the on-demand price beside it too: a saving is against what we would have paid."""
    if not discounts:
        return offer
    ours, beside = factor(discounts, offer.pool, offer.pool.market), factor(discounts, offer.pool, Market.ON_DEMAND)
    quote = offer.quote
    if quote is not None and ours != 1.0:
        quote = replace(quote, price=_times(quote.price, ours), source=f"{quote.source}, {ours:g} of it by contract")
    listed = offer.on_demand
    return replace(offer, quote=quote, on_demand=None if listed is None else _times(listed, beside))


def listed(price: MicroUsdPerHour, discounts: Sequence[Discount], pool: Pool) -> MicroUsdPerHour:
    """A limit of ours in the provider's own prices."""
    return _times(price, 1.0 / factor(discounts, pool, pool.market))


def _times(price: MicroUsdPerHour, by: float) -> MicroUsdPerHour:
    return MicroUsdPerHour(round(price * by))
