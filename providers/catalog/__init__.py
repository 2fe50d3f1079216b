"""Hardware facts and public list prices: TOML rows, each with its source and date.

The rows stand in accelerators.toml and shapes.toml. They say what a machine is and what it costs on demand by the
public price list; what it costs now, and whether it can be had, only the market knows.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any

from dsched.scheduler.core.hardware import PCIE_GB_S, Accelerator, Shape
from dsched.scheduler.core.units import MicroUsdPerHour, price


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row comes from."""

    source: str
    as_of: date

    def __str__(self) -> str:
        return f"{self.source}, {self.as_of}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A shape as its provider lists it."""

    shape: Shape
    provider: str  # "aws", "gcp"
    on_demand: Mapping[str, MicroUsdPerHour]  # region -> list price; a region that is absent has none
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """Dense peaks that no ranking uses yet; None: the chip has no such unit, or nothing is known."""

    int8_tops: float | None = None
    fp4_tflops: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    accelerators: Mapping[str, Accelerator]
    peaks: Mapping[str, Peaks]  # accelerator name -> peaks of the narrower formats
    aliases: Mapping[str, str]  # other spelling, lower case -> name
    origins: Mapping[str, Origin]  # accelerator name -> where its facts come from
    listings: Mapping[str, Listing]  # shape name -> listing

    def accelerator(self, name: str) -> Accelerator | None:
        """By name or another spelling, in any case; None: not in the catalog."""
        return self.accelerators.get(self.aliases.get(name.lower(), name))

    def shape(self, name: str) -> Shape | None:
        listing = self.listings.get(name)
        return None if listing is None else listing.shape

    def on_demand(self, shape: str, region: str) -> MicroUsdPerHour | None:
        """The public list price of one instance; None: not known, which is not 0."""
        listing = self.listings.get(shape)
        return None if listing is None else listing.on_demand.get(region)


class CatalogError(ValueError):
    """A row that cannot be true. The message names the file and the row."""


@cache
def load() -> Catalog:
    """The catalog that ships with dsched. Raises CatalogError for a row that cannot be true."""
    return read(_resource("accelerators.toml"), _resource("shapes.toml"))


@cache
def tpus() -> Catalog:
    """TPUs, apart: their machines are offered only by a provider that was told to, to jobs that name one."""
    return read(_resource("tpus.toml"), _resource("tpus.toml"))


def read(accelerators: str, shapes: str) -> Catalog:
    """Build a catalog from the text of the two files."""
    chips = tomllib.loads(accelerators)
    models = {name: _accelerator(name, row) for name, row in chips["accelerator"].items()}
    peaks = {
        name: Peaks(int8_tops=row.get("int8_tops"), fp4_tflops=row.get("fp4_tflops"))
        for name, row in chips["accelerator"].items()
    }
    origins = {name: _origin("accelerators.toml", name, row, chips) for name, row in chips["accelerator"].items()}
    aliases = {
        spelling.lower(): name
        for name, row in chips["accelerator"].items()
        for spelling in (name, *row.get("aliases", ()))
    }
    machines = tomllib.loads(shapes)
    listings: dict[str, Listing] = {}
    for row in machines["shape"]:
        listing = _listing(row, models, machines)
        if listing.shape.name in listings:
            raise CatalogError(f"shapes.toml: {listing.shape.name} is listed twice")
        listings[listing.shape.name] = listing
    return Catalog(accelerators=models, peaks=peaks, aliases=aliases, origins=origins, listings=listings)


def _resource(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def _accelerator(name: str, row: Mapping[str, Any]) -> Accelerator:
    if (
        min(row["memory_gib"], row["bandwidth_gb_s"], row["bf16_tflops"], row["tdp_watts"], row.get("link_gb_s", 1))
        <= 0
    ):
        raise CatalogError(f"accelerators.toml: {name} has a fact that is not positive")
    return Accelerator(
        name=name,
        memory_gib=row["memory_gib"],
        bandwidth_gb_s=row["bandwidth_gb_s"],
        bf16_tflops=row["bf16_tflops"],
        fp8_tflops=row.get("fp8_tflops"),
        tdp_watts=row["tdp_watts"],
        link_gb_s=row.get("link_gb_s", PCIE_GB_S),
    )


def _listing(row: Mapping[str, Any], models: Mapping[str, Accelerator], machines: Mapping[str, Any]) -> Listing:
    name, chip, gpus = row["name"], row.get("accelerator"), row.get("gpus", 0)
    if chip is not None and chip not in models:
        raise CatalogError(f"shapes.toml: {name} names the accelerator {chip}, which accelerators.toml does not have")
    if (chip is None) != (gpus == 0):
        raise CatalogError(f"shapes.toml: {name} has {gpus} GPUs of {chip or 'no model'}")
    return Listing(
        shape=Shape(
            name=name,
            accelerator=None if chip is None else models[chip],
            gpus=gpus,
            vcpus=row["vcpus"],
            memory_gib=row["memory_gib"],
            network_gbit_s=row.get("network_gbit_s", 0),
        ),
        provider=row["provider"],
        on_demand={region: price(usd) for region, usd in row.get("on_demand", {}).items()},
        origin=_origin("shapes.toml", name, row, machines),
    )


def _origin(file: str, name: str, row: Mapping[str, Any], document: Mapping[str, Any]) -> Origin:
    try:
        return Origin(document["sources"][row["source"]], row["as_of"])
    except KeyError as missing:
        raise CatalogError(f"{file}: {name} lacks its source or date ({missing})") from None
