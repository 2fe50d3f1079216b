"""Quotas: what a cloud lets our account run at a time, of a kind of machine, in a place. A hard limit like capacity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from dsched.scheduler.core.hardware import Shape
from dsched.scheduler.core.hold import Hold
from dsched.scheduler.core.market import Market, Offer, Pool

UNITS = ("vcpus", "gpus", "nodes")


class Quota(NamedTuple):
    """Of all pools whose "provider/region/shape/market" matches the glob, together."""

    pattern: str  # "aws/us-east-1/p5*/spot"
    limit: int
    unit: str  # one of UNITS
    name: str = ""  # as the cloud calls it; "": it is the operator's own

    def covers(self, pool: Pool) -> bool:
        return fnmatchcase(f"{pool.provider}/{pool.region}/{pool.shape}/{pool.market}", self.pattern)

    def takes(self, shape: Shape) -> int:
        """What one machine of this shape uses of it."""
        return {"vcpus": shape.vcpus, "gpus": shape.gpus, "nodes": 1}[self.unit]


class Left(NamedTuple):
    quota: Quota | Hold
    left: int  # in its unit


def left(quotas: Sequence[Quota | Hold], held: Iterable[Pool], offers: Mapping[str, Offer]) -> tuple[Left, ...]:
    """What the machines that we hold, one pool each, leave of every quota. A shape without an offer counts as none."""
    if not quotas:
        return ()
    pools = Counter(held)
    shapes = {offer.pool.shape: offer.shape for offer in offers.values()} if pools else {}
    used = [
        sum(
            count * quota.takes(shapes[pool.shape])
            for pool, count in pools.items()
            if pool.shape in shapes and quota.covers(pool)
        )
        for quota in quotas
    ]
    return tuple(Left(quota, max(0, quota.limit - sum_of)) for quota, sum_of in zip(quotas, used, strict=True))


class Claim(NamedTuple):
    """What one machine of a pool takes of a quota."""

    number: int  # among the question's
    each: int


def claimed(of: Sequence[Left], offers: Mapping[str, Offer]) -> dict[str, tuple[Claim, ...]]:
    """Of every offer what one machine takes. Ten thousand offers are of some hundred kinds: each is matched once."""
    if not of:
        return {}
    kinds: dict[tuple[str, ...], tuple[Claim, ...]] = {}
    found: dict[str, tuple[Claim, ...]] = {}
    for id, offer in offers.items():
        pool = offer.pool
        zone = pool.zone if pool.market is Market.RESERVED else ""  # a hold is of some zones, a quota never
        kind = (pool.provider, pool.region, zone, pool.shape, pool.market)
        if kind not in kinds:
            kinds[kind] = claims(of, offer)
        found[id] = kinds[kind]
    return found


def claims(of: Sequence[Left], offer: Offer) -> tuple[Claim, ...]:
    found = (Claim(n, one.quota.takes(offer.shape)) for n, one in enumerate(of) if one.quota.covers(offer.pool))
    return tuple(claim for claim in found if claim.each > 0)


def read(pattern: str, text: object) -> Quota:
    """From settings: "768 vcpus". Raises ValueError."""
    number, _, unit = str(text).strip().partition(" ")
    if pattern.count("/") != 3:
        raise ValueError(f"{pattern!r} is no glob over provider/region/shape/market such as aws/us-east-1/p5*/spot")
    if unit.strip() not in UNITS or not number.isdigit():
        raise ValueError(f'{pattern} = {text!r}: must be a number and one of {", ".join(UNITS)}, such as "768 vcpus"')
    return Quota(pattern, int(number), unit.strip())
