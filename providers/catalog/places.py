"""What is publicly known of places: prices of moving data, and the carbon of grids. The rows stand in places.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

from dsched.providers.catalog import CatalogError
from dsched.scheduler.core.changeover import Egress, Route
from dsched.scheduler.core.power import Facts

_FILE: Final = "places.toml"
_GRAMS_MAX: Final = 1_500.0  # of CO2 per kWh: the dirtiest coal emits less
_DOLLARS_MAX: Final = 1.0  # per GB: no list price comes near


@cache
def load() -> Facts:
    """The facts that ship with dsched. Raises CatalogError for a row that cannot be true."""
    return read(files(__package__).joinpath(_FILE).read_text(encoding="utf-8"))


def read(places: str) -> Facts:
    """Build the facts from the text of the file."""
    document = tomllib.loads(places)
    routes = [_route(row, document) for row in document.get("egress", ())]
    carbon: dict[str, float] = {}
    for row in document.get("carbon", ()):
        _sourced(row, document)
        for region, grams in row["grams"].items():
            carbon[region] = _within(float(grams), _GRAMS_MAX, region)
    return Facts(egress=Egress(tuple(routes)), carbon=carbon)


def _route(row: Mapping[str, Any], document: Mapping[str, Any]) -> Route:
    _sourced(row, document)
    source = str(row["from"])
    return Route(
        source=source,
        target=str(row.get("to", "")),
        within=_within(float(row["within"]), _DOLLARS_MAX, source),
        out=_within(float(row["out"]), _DOLLARS_MAX, source) if "out" in row else None,
    )


def _within(number: float, most: float, name: str) -> float:
    if not 0.0 <= number <= most:
        raise CatalogError(f"{_FILE}: {name} has {number}, which is not between 0 and {most}")
    return number


def _sourced(row: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    name = row.get("from", "a carbon row")
    if row.get("source") not in document["sources"] or "as_of" not in row:
        raise CatalogError(f"{_FILE}: {name} lacks its source or date")
