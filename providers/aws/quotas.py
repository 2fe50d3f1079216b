"""What this account may run at most: vCPUs per family of shapes, one figure for spot and one for on-demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dsched.providers.aws.client import Account
from dsched.scheduler.core.market import Market

CODES: Final[Mapping[str, tuple[str, Market]]] = {  # EC2's names of the limits -> families, market
    "L-3819A6DF": ("G and VT", Market.SPOT),
    "L-7212CCBC": ("P2, P3 and P4", Market.SPOT),
    "L-C4BD4855": ("P5", Market.SPOT),
    "L-DB2E81BA": ("G and VT", Market.ON_DEMAND),
    "L-417A185B": ("P", Market.ON_DEMAND),
}
_FAMILIES: Final = {
    ("g", Market.SPOT): "L-3819A6DF",
    ("g", Market.ON_DEMAND): "L-DB2E81BA",
    ("p", Market.ON_DEMAND): "L-417A185B",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    region: str
    code: str
    families: str
    market: Market
    vcpus: int


async def limits(account: Account, region: str) -> list[Limit]:
    """The limits that GPU shapes meet. Raises ProviderError."""
    rows = await account.rows("service-quotas", region, "list_service_quotas", "Quotas", ServiceCode="ec2")
    return [
        Limit(region=region, code=row["QuotaCode"], families=families, market=market, vcpus=int(row["Value"]))
        for row in rows
        if row["QuotaCode"] in CODES
        for families, market in [CODES[row["QuotaCode"]]]
    ]


def code_for(shape: str, market: Market) -> str | None:
    """The limit that a launch of this shape meets; None: it has none that we know."""
    family = shape.partition(".")[0]
    if market is Market.RESERVED:
        return None
    if market is Market.SPOT and family.startswith("p"):
        return "L-C4BD4855" if family.startswith("p5") else "L-7212CCBC"
    return _FAMILIES.get((family[:1], market))
