"""What AWS says about a pool's future: placement scores (1..10), the spot advisor's class (0..4)."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

from dsched.providers.aws.client import Account
from dsched.providers.base import ProviderError

FETCH_S: Final = 10.0
BYTES_MAX: Final = 32 << 20  # the document has about 3 MB
_CLASSES: Final = range(5)

Classes = Mapping[tuple[str, str], int]  # (region, shape)


async def scores(account: Account, region: str, shapes: tuple[str, ...]) -> dict[tuple[str, str], int]:
    """(zone id, shape) -> score. One question per shape: a score is about the whole list that was asked for."""
    found: dict[tuple[str, str], int] = {}
    for shape in shapes:
        rows = await account.rows(
            "ec2",
            region,
            "get_spot_placement_scores",
            "SpotPlacementScores",
            InstanceTypes=[shape],
            TargetCapacity=1,
            TargetCapacityUnitType="units",
            SingleAvailabilityZone=True,
            RegionNames=[region],
        )
        found |= {(row["AvailabilityZoneId"], shape): int(row["Score"]) for row in rows}
    return found


async def advised(url: str) -> Classes:
    """The spot advisor's public document. Raises ProviderError."""
    try:
        text = await asyncio.to_thread(_fetched, url)
        return classes_from(json.loads(text))
    except (OSError, urllib.error.URLError, ValueError, KeyError, TypeError) as error:
        raise ProviderError("SpotAdvisor", f"{url}: {error}") from error


def _fetched(url: str) -> bytes:
    if not url.startswith(("https://", "http://")):
        raise ValueError("the address must begin with https://")
    with urllib.request.urlopen(url, timeout=FETCH_S) as reply:  # noqa: S310 - checked above
        text: bytes = reply.read(BYTES_MAX)
        return text


def classes_from(document: Mapping[str, Any]) -> Classes:
    return {
        (region, shape): int(row["r"])
        for region, systems in document["spot_advisor"].items()
        for shape, row in systems.get("Linux", {}).items()
        if int(row["r"]) in _CLASSES
    }
