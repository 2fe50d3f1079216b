"""Read market traces of the schema `dsched.trace/1`: how many machines a zone had at each tick, and at what price.

`counts_rle` may hold null or "unknown": nobody looked. A price of null in a series means the last one
that was seen (before the first: the first).
What cannot be true (NaN, a price of nothing, runs of no length, series that end early) is refused with the file's name
and the remedy; one bad file spoils a bench silently otherwise.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)

SCHEMA: Final = "dsched.trace/1"
UNSEEN: Final = -1  # a count that nobody observed
TICKS_MAX: Final = 5_000_000  # of one trace: a year at six seconds; more is a broken file
FILES_MAX: Final = 10_000  # of one folder
PLACES: Final = (  # how a zone is written, and which part of it is the region
    ("aws", re.compile(r"^((?:[a-z]{2}(?:-[a-z]+)+)-\d+)([a-z])?$")),
    ("gcp", re.compile(r"^([a-z]+-[a-z]+\d+)(?:-([a-z]))?$")),
)


class BadTrace(Exception):
    """A trace that cannot be true, or a folder without traces. The message names the file and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Zone:
    """One zone's history: machines and spot price per tick. Arrays are read-only."""

    name: str  # as the file says it
    family: str  # zones of one family and gap sell the same thing
    place: str  # the zone itself
    region: str
    provider: str
    gap: float  # s between ticks
    start: float  # s since 1970 of the first tick; nan: the file does not tell
    counts: NDArray[np.int32]  # [T]; UNSEEN where nobody looked
    prices: NDArray[np.float64]  # [T] $/h of spot
    on_demand: float  # $/h

    @property
    def ticks(self) -> int:
        return len(self.counts)


def read_folder(folder: Path) -> list[Zone]:
    """All zones of a folder of traces, by name. Raises BadTrace for a folder without any, or for the first bad file."""
    if not folder.is_dir():
        raise BadTrace(f"{folder} is no folder; give one with {SCHEMA} files (*.json)")
    files = sorted(folder.glob("*.json"))
    if not files or len(files) > FILES_MAX:
        raise BadTrace(f"{folder} holds {len(files)} *.json files; it must hold 1 to {FILES_MAX} {SCHEMA} traces")
    zones = [read(file) for file in files]
    for one, other in pairwise(sorted(zones, key=lambda zone: zone.name)):
        if one.name == other.name:
            raise BadTrace(f"{folder}: two files call themselves {one.name!r}; rename one of them")
    return sorted(zones, key=lambda zone: zone.name)


def read(file: Path) -> Zone:
    """One zone. Raises BadTrace."""
    try:
        raw = json.loads(file.read_text())
    except (OSError, ValueError) as e:
        raise BadTrace(f"{file}: cannot be read as JSON ({e})") from e
    if not isinstance(raw, Mapping) or raw.get("schema") != SCHEMA:
        raise BadTrace(f"{file}: is no {SCHEMA} file; take it out of the folder or convert it")
    try:
        return zone(raw)
    except BadTrace as e:
        raise BadTrace(f"{file}: {e}") from e
    except (KeyError, TypeError, ValueError) as e:
        raise BadTrace(f"{file}: {type(e).__name__}: {e}; compare it with the schema {SCHEMA}") from e


def zone(raw: Mapping[str, Any]) -> Zone:
    """The zone that a decoded trace tells of. Raises BadTrace, KeyError, TypeError or ValueError."""
    name = str(raw["name"])
    gap = _positive(raw["gap_seconds"], "gap_seconds")
    counts = _counts(raw["counts_rle"])
    family, place, region, provider = _where(name, raw)
    if raw.get("od_price") is None:
        raise BadTrace("od_price is missing: without an on-demand price no deadline can be promised; add it in $/h")
    return Zone(
        name=name,
        family=family,
        place=place,
        region=region,
        provider=provider,
        gap=gap,
        start=_start(raw.get("start")),
        counts=_frozen(counts),
        prices=_frozen(_prices(raw, len(counts))),
        on_demand=_positive(raw["od_price"], "od_price"),
    )


def _counts(runs: Iterable[Any]) -> NDArray[np.int32]:
    """[T] from [[count or null or "unknown", ticks], ...]."""
    values, lengths = [], []
    for index, (value, length) in enumerate(runs):
        if length != int(length) or length < 1:
            raise BadTrace(f"counts_rle[{index}]: a run of {length} ticks; the clock jumped or a run is empty: cut it")
        if value is None or value == "unknown":
            value = UNSEEN
        elif not math.isfinite(value) or value < 0 or value != int(value):
            raise BadTrace(f"counts_rle[{index}]: {value!r} machines; write a count, or null where nobody looked")
        values.append(int(value))
        lengths.append(int(length))
    if not 0 < sum(lengths) <= TICKS_MAX:
        raise BadTrace(f"counts_rle covers {sum(lengths)} ticks; it must cover 1 to {TICKS_MAX}")
    return np.repeat(np.array(values, np.int32), lengths)


def _prices(raw: Mapping[str, Any], ticks: int) -> NDArray[np.float64]:
    """[T] $/h. A series holds every stride-th tick; its last value may hold for less than a stride more."""
    series = raw.get("spot_price_series")
    if series is None:
        if raw.get("spot_price") is None:
            raise BadTrace("neither spot_price nor spot_price_series: add the price in $/h")
        return np.full(ticks, _positive(raw["spot_price"], "spot_price"))
    stride = int(_positive(raw.get("spot_price_stride", 1), "spot_price_stride"))
    if len(series) * stride < ticks:
        raise BadTrace(
            f"spot_price_series covers {len(series) * stride} of {ticks} ticks at stride {stride}: "
            "give a price for every stride, or cut counts_rle"
        )
    known = [
        None if value is None else _positive(value, "spot_price_series", index) for index, value in enumerate(series)
    ]
    first = next((value for value in known if value is not None), None)
    if first is None:
        raise BadTrace("spot_price_series holds no price at all; give spot_price instead")
    held = []
    for value in known:
        first = value if value is not None else first
        held.append(first)
    return np.repeat(np.array(held, np.float64), stride)[:ticks]


def _positive(value: Any, what: str, index: int | None = None) -> float:
    number = float(value)
    if not math.isfinite(number) or number <= 0:
        spot = what if index is None else f"{what}[{index}]"
        raise BadTrace(f"{spot} is {value!r}; it must be a positive number (null where a series has no observation)")
    return number


def _where(name: str, raw: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """(family, place, region, provider) from `prefix/zone_shape` and from what the file says outright."""
    prefix, _, rest = name.rpartition("/")
    place, _, shape = rest.partition("_")
    if raw.get("zone"):
        place, shape = str(raw["zone"]), str(raw.get("shape", ""))
    region, provider = place, str(raw.get("cloud", ""))
    for cloud, pattern in PLACES:
        if found := pattern.match(place):
            region, provider = found[1], provider or cloud
            break
    family = "/".join(part for part in (prefix, shape) if part) or "traces"
    return family, place, str(raw.get("region") or region), provider or "unknown"


def _start(value: Any) -> float:
    """s since 1970 of an ISO date or of market milliseconds; nan for none."""
    if value is None:
        return math.nan
    if isinstance(value, int | float):
        return float(value) / 1000
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as e:
        raise BadTrace(f"start is {value!r}; write an ISO date and time") from e
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _frozen(array: NDArray[Scalar]) -> NDArray[Scalar]:
    array.flags.writeable = False
    return array
