"""Zones by id: their names are shuffled per account, their ids are the same for everybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Zones:
    """The zones of one region, as this account names them."""

    names: Mapping[str, str]  # id -> name

    def name(self, zone: str) -> str | None:
        return self.names.get(zone)

    def id(self, name: str) -> str:
        """The name itself where the zone is not known: it was opened after we looked."""
        return next((zone for zone, known in self.names.items() if known == name), name)

    def of(self, row: Mapping[str, Any]) -> str:
        """The zone id of a row that names its zone one way or the other."""
        return str(row.get("AvailabilityZoneId") or self.id(str(row.get("AvailabilityZone", ""))))


def zones_from(rows: list[Mapping[str, Any]]) -> Zones:
    """From DescribeAvailabilityZones; zones that are not open to this account are left out."""
    return Zones({row["ZoneId"]: row["ZoneName"] for row in rows if row.get("State", "available") == "available"})
