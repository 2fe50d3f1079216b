"""Read market traces of the schema `dsched.trace/1`: how many machines a zone had at each tick, and at what price.

`counts_rle` may hold null or "unknown": nobody looked. Prices come as one number, as a series of every stride-th tick
or as runs; null among them means the last one that was seen (before the first: the first). A zone may have no price at
all: it can be asked when it was up, not what it cost.
What cannot be true (NaN, a price of nothing, runs of no length, series that end early) is refused with the file, the
line and the remedy; one bad file spoils a bench silently otherwise.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
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
GAP_MIN, GAP_MAX = 1.0, 86_400.0  # s between ticks: outside of these it was meant in another unit
FILES_MAX: Final = 10_000  # of one folder
COUNT_MAX: Final = 1_000_000  # machines of one zone
_BETWEEN: Final = " \t\r\n,"  # what may stand between the elements of a list
PLACES: Final = (  # how a zone is written, and which part of it is the region
    ("aws", re.compile(r"^((?:[a-z]{2}(?:-[a-z]+)+)-\d+)([a-z])?$")),
    ("gcp", re.compile(r"^([a-z]+-[a-z]+\d+)(?:-([a-z]))?$")),
)


class BadTrace(Exception):
    """A trace that cannot be true, or a folder without traces. The message names the file and the remedy.

    `key` and `index` are where in the file the fault lies, while its line is not known yet.
    """

    def __init__(self, message: str, key: str = "", index: int | None = None) -> None:
        super().__init__(message)
        self.key, self.index = key, index


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
    prices: NDArray[np.float64]  # [T] $/h of spot; nan throughout: the file does not tell
    on_demand: float  # $/h; nan: the file does not tell

    @property
    def ticks(self) -> int:
        return len(self.counts)

    @property
    def priced(self) -> bool:
        """Whether it is known what its machines cost."""
        return math.isfinite(self.on_demand) and bool(np.isfinite(self.prices[0]))


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
        text = file.read_text()
        raw = json.loads(text)
    except (OSError, ValueError, RecursionError) as e:
        raise BadTrace(f"{file}: cannot be read as JSON ({e}); mend it or take it out of the folder") from e
    if not isinstance(raw, Mapping) or raw.get("schema") != SCHEMA:
        raise BadTrace(f"{file}: is no {SCHEMA} file; take it out of the folder or convert it")
    try:
        return zone(raw)
    except BadTrace as e:
        raise BadTrace(f"{file}:{_line(text, e.key, e.index)}: {e}") from e
    except (KeyError, TypeError, ValueError, OverflowError) as e:
        raise BadTrace(f"{file}: {type(e).__name__}: {e}; compare it with the schema {SCHEMA}") from e


def _line(text: str, key: str, index: int | None) -> int:
    """The line of a key, or of one element of its list, in a text that is JSON; 1 for what is not there."""
    found = re.search(rf'"{re.escape(key)}"\s*:\s*', text) if key else None
    if found is None:
        return 1
    at = found.end()
    if index is not None and text[at] == "[":
        end, decoder = at + 1, json.JSONDecoder()
        for _ in range(index + 1):
            while text[end] in _BETWEEN:
                end += 1
            at, (_, end) = end, decoder.raw_decode(text, end)
    return text.count("\n", 0, at) + 1


def zone(raw: Mapping[str, Any]) -> Zone:
    """The zone that a decoded trace tells of. Raises BadTrace, KeyError, TypeError, ValueError or OverflowError."""
    for key in ("name", "gap_seconds", "counts_rle"):
        if raw.get(key) is None:
            raise BadTrace(f"{key} is missing; add it as the schema {SCHEMA} wants it")
    name = str(raw["name"])
    gap = _positive(raw["gap_seconds"], "gap_seconds")
    if not GAP_MIN <= gap <= GAP_MAX:
        raise BadTrace(f"gap_seconds is {gap:g}; it must be {GAP_MIN:g} to {GAP_MAX:g} seconds", "gap_seconds")
    counts = _counts(raw["counts_rle"])
    family, place, region, provider = _where(name, raw)
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
        on_demand=math.nan if raw.get("od_price") is None else _positive(raw["od_price"], "od_price"),
    )


def _counts(runs: Iterable[Any]) -> NDArray[np.int32]:
    """[T] from [[count or null or "unknown", ticks], ...]."""
    values, lengths = [], []
    for index, (value, length) in enumerate(runs):
        lengths.append(_ticks(length, "counts_rle", index))
        if value is None or value == "unknown":
            value = UNSEEN
        elif not math.isfinite(value) or not 0 <= value <= COUNT_MAX or value != int(value):
            raise BadTrace(
                f"counts_rle[{index}]: {value!r} machines; write a count, or null where nobody looked",
                "counts_rle",
                index,
            )
        values.append(int(value))
    if not 0 < sum(lengths) <= TICKS_MAX:
        raise BadTrace(f"counts_rle covers {sum(lengths)} ticks; it must cover 1 to {TICKS_MAX}", "counts_rle")
    return np.repeat(np.array(values, np.int32), lengths)


def _ticks(length: Any, key: str, index: int) -> int:
    """How long a run is."""
    if not math.isfinite(length) or length != int(length) or length < 1:
        raise BadTrace(
            f"{key}[{index}]: a run of {length} ticks; the clock jumped or a run is empty: cut it", key, index
        )
    return int(length)


def _prices(raw: Mapping[str, Any], ticks: int) -> NDArray[np.float64]:
    """[T] $/h, nan where the file has none. What runs or a series hold last may hold for less than a stride more."""
    if raw.get("spot_price_series") is not None:
        stride = int(_positive(raw.get("spot_price_stride") or 1, "spot_price_stride"))
        series = raw["spot_price_series"]
        return _held("spot_price_series", series, [stride] * len(series), ticks)
    if raw.get("spot_price_rle") is not None:
        prices, lengths = [], []
        for index, (value, length) in enumerate(raw["spot_price_rle"]):
            prices.append(value)
            lengths.append(_ticks(length, "spot_price_rle", index))
        return _held("spot_price_rle", prices, lengths, ticks)
    if raw.get("spot_price") is None:
        return np.full(ticks, np.nan)
    return np.full(ticks, _positive(raw["spot_price"], "spot_price"))


def _held(key: str, series: Sequence[Any], lengths: Sequence[int], ticks: int) -> NDArray[np.float64]:
    """[T] each price for so many ticks, the last one seen where none is told."""
    if sum(lengths) < ticks:
        raise BadTrace(f"{key} covers {sum(lengths)} of {ticks} ticks: give prices to the end, or cut counts_rle", key)
    known = [None if value is None else _positive(value, key, index) for index, value in enumerate(series)]
    last = next((value for value in known if value is not None), math.nan)
    held = []
    for value in known:
        last = value if value is not None else last
        held.append(last)
    ends = np.cumsum([min(length, ticks) for length in lengths])
    return np.array(held, np.float64)[np.searchsorted(ends, np.arange(ticks), side="right")]


def _positive(value: Any, what: str, index: int | None = None) -> float:
    number = float(value)
    if not math.isfinite(number) or number <= 0:
        spot = what if index is None else f"{what}[{index}]"
        remedy = "it must be a positive number (null where a series has no observation)"
        raise BadTrace(f"{spot} is {value!r}; {remedy}", what, index)
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
        raise BadTrace(f"start is {value!r}; write an ISO date and time", "start") from e
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _frozen(array: NDArray[Scalar]) -> NDArray[Scalar]:
    array.flags.writeable = False
    return array
