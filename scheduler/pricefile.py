"""Read a file of prices: CSV with a line of column names, whatever it is called and wherever it comes from.

What a row says is told by its columns (docs/reference/prices.md has each set with an example):

    provider, region, zone, instance_type, price_kind, usd_per_hour       one price; `zone` may be empty
    provider, region, tpu, price_kind, usd_per_chip_hour                  of a TPU chip: for every machine that has them
    date, machine, region, hour_od, hour_spot, hour_cud1y, hour_cud3y     a table over days; Google Cloud, where
                                                                          no `provider` says otherwise
    provider, region, instance_type, interruption_bucket                  how often spot machines are interrupted

A row is as old as its `date` or `at` says, else as the caller says for the whole file: an age is never guessed. Other
columns are passed over, lines that begin with # too. Everything that is wrong is found before anything is taken.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple

from dsched.scheduler.core.units import MICRO, Instant, MicroUsdPerHour, price

ROWS_MAX: Final = 1_000_000  # a year of daily prices of all GPU shapes of both clouds
FOUND_MAX: Final = 20  # complaints: who sees so many mends the file's maker, not its lines
USD_MAX: Final = 10_000  # per hour: no machine comes near; what is above has the wrong unit
KINDS: Final[Mapping[str, str]] = {  # as files name them -> our words
    "on_demand": "on-demand",
    "ondemand": "on-demand",
    "spot": "spot",
    "preemptible": "spot",
    "cud_1y": "cud-1y",
    "cud_3y": "cud-3y",
}
_WIDE: Final = {"hour_od": "on-demand", "hour_spot": "spot", "hour_cud1y": "cud-1y", "hour_cud3y": "cud-3y"}
_BUCKETS: Final = {"<5%": 0, "5-10%": 1, "10-15%": 2, "15-20%": 3, ">20%": 4}
_PLACES: Final = {  # provider -> how its regions and zones look, and what to do about others
    "aws": (re.compile(r"[a-z]{2}(-[a-z]+)+-\d"), re.compile(r"[a-z]{3,5}\d-[a-z0-9-]*az\d+")),
    "gcp": (re.compile(r"[a-z]+-[a-z]+\d+"), re.compile(r"[a-z]+-[a-z]+\d+-[a-z]")),
}
_SHAPE: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,62}")


class Row(NamedTuple):
    """One price of one place and kind."""

    provider: str
    region: str
    zone: str  # "": of the whole region
    shape: str
    kind: str  # "spot", "on-demand", "cud-1y", "cud-3y"
    price: MicroUsdPerHour  # per machine
    at: Instant
    source: str


class Bucket(NamedTuple):
    """How often a shape's spot machines are interrupted in a region: 0 (rarest) .. 4."""

    provider: str
    region: str
    shape: str
    bucket: int


@dataclass(slots=True)
class Found:
    rows: list[Row] = field(default_factory=list)
    buckets: list[Bucket] = field(default_factory=list)


class BadFile(ValueError):
    """Nothing of the file was taken. `complaints`: FILE:LINE, what is wrong there, and what to do."""

    def __init__(self, complaints: Sequence[str]) -> None:
        super().__init__("\n".join(complaints))
        self.complaints = tuple(complaints)


class _Bad(ValueError):
    """One row is wrong."""


Chips = Callable[[str], Sequence[tuple[str, int]]]  # a TPU's name -> the machines that have it, and how many each


def parse(text: str, name: str, *, as_of: Instant | None, now: Instant, chips: Chips) -> Found:
    """All of a file's prices, or BadFile. `as_of`: how old rows without a date of their own are."""
    lines = [(number, line) for number, line in enumerate(io.StringIO(text.removeprefix("\ufeff")), 1)]
    lines = [(number, line) for number, line in lines if line.strip() and not line.startswith("#")]
    if not lines:
        raise BadFile([f"{name}: no line of column names; the first line that is no comment names the columns"])
    try:
        columns = [column.strip().lower() for column in next(csv.reader([lines[0][1]]))]
    except csv.Error as error:
        raise BadFile([f"{name}:{lines[0][0]}: {error}; is it CSV, with lines that end in a line feed?"]) from error
    read = _reader(columns)
    if read is None:
        raise BadFile(
            [f"{name}:{lines[0][0]}: no known set of columns ({', '.join(columns)}); it needs one of: {_SETS}"]
        )
    if len(lines) > ROWS_MAX:
        raise BadFile([f"{name}: {len(lines)} rows; {ROWS_MAX} are the most: split the file"])
    found, complaints = Found(), list[str]()
    seen: dict[tuple[object, ...], tuple[int, MicroUsdPerHour]] = {}
    for number, line in lines[1:]:
        try:
            for one in read(_fields(columns, line), _Told(as_of, now, chips)):
                _take(found, one, number, seen)
        except _Bad as bad:
            complaints.append(f"{name}:{number}: {bad}")
    if complaints:
        more = [f"and {len(complaints) - FOUND_MAX} more"] if len(complaints) > FOUND_MAX else []
        raise BadFile([*complaints[:FOUND_MAX], *more])
    return found


class _Told(NamedTuple):
    as_of: Instant | None
    now: Instant
    chips: Chips


Fields = Mapping[str, str]
Reader = Callable[[Fields, _Told], Iterator["Row | Bucket"]]


def _reader(columns: Sequence[str]) -> Reader | None:
    have = set(columns)
    return next((read for needed, read in _READERS if have >= needed), None)


def _fields(columns: Sequence[str], line: str) -> dict[str, str]:
    try:
        values = next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise _Bad(f"{error}: a quote that opens must close on the same line") from error
    if len(values) != len(columns):
        raise _Bad(f"{len(values)} values for {len(columns)} columns; quote a value that has a comma in it")
    return {column: value.strip() for column, value in zip(columns, values, strict=True)}


def _take(
    found: Found, one: Row | Bucket, number: int, seen: dict[tuple[object, ...], tuple[int, MicroUsdPerHour]]
) -> None:
    if isinstance(one, Bucket):
        found.buckets.append(one)
        return
    key = (*one[:5], one.at)
    line, before = seen.setdefault(key, (number, one.price))
    if before != one.price:
        raise _Bad(f"another price than line {line} has for the same place, kind and time; keep one of them")
    if line == number:
        found.rows.append(one)


def _single(row: Fields, told: _Told) -> Iterator[Row]:
    provider, region, zone = _place(row)
    yield Row(provider, region, zone, _shape(row["instance_type"]), _kind(row), _usd(row["usd_per_hour"]),
              _at(row, told), _source(row))  # fmt: skip


def _tpu(row: Fields, told: _Told) -> Iterator[Row]:
    provider, region, _ = _place(row)
    machines = told.chips(row["tpu"])
    if not machines:
        raise _Bad(f"tpu = {row['tpu']!r}: not in the catalog; known names look like TPU-v5e, TPU-v6e")
    each = _usd(row["usd_per_chip_hour"])
    for shape, count in machines:
        micro = MicroUsdPerHour(each * count)
        yield Row(provider, region, "", shape, _kind(row), micro, _at(row, told), _source(row))


def _wide(row: Fields, told: _Told) -> Iterator[Row]:
    provider, region, _ = _place({"provider": "gcp", **row})
    for column, kind in _WIDE.items():
        if row.get(column, "").strip("0."):  # an empty cell and a zero are holes of the table
            yield Row(provider, region, "", _shape(row["machine"]), kind, _usd(row[column]), _at(row, told),
                      _source(row))  # fmt: skip


def _bucket(row: Fields, told: _Told) -> Iterator[Bucket]:
    provider, region, _ = _place(row)
    bucket = _BUCKETS.get(row["interruption_bucket"])
    if bucket is None:
        raise _Bad(f"interruption_bucket = {row['interruption_bucket']!r}: must be one of {', '.join(_BUCKETS)}")
    yield Bucket(provider, region, _shape(row["instance_type"]), bucket)


_READERS: Final[tuple[tuple[set[str], Reader], ...]] = (
    ({"provider", "region", "instance_type", "price_kind", "usd_per_hour"}, _single),
    ({"provider", "region", "tpu", "price_kind", "usd_per_chip_hour"}, _tpu),
    ({"date", "machine", "region", "hour_od"}, _wide),
    ({"provider", "region", "instance_type", "interruption_bucket"}, _bucket),
)
_SETS: Final = "; or ".join(" ".join(sorted(needed)) for needed, _ in _READERS)


def _place(row: Fields) -> tuple[str, str, str]:
    provider, region, zone = row.get("provider", ""), row["region"], row.get("zone", "")
    if provider not in _PLACES:
        raise _Bad(f"provider = {provider!r}: must be {' or '.join(_PLACES)}")
    regions, zones = _PLACES[provider]
    if not regions.fullmatch(region):
        like = "us-east-1" if provider == "aws" else "us-central1"
        raise _Bad(f"region = {region!r} is no region of {provider}; one looks like {like}")
    if zone and not zones.fullmatch(zone):
        like = "use1-az4: the id, since names differ from account to account" if provider == "aws" else "us-central1-a"
        raise _Bad(f"zone = {zone!r} is no zone of {provider}; one looks like {like}")
    return provider, region, zone


def _shape(told: str) -> str:
    if not _SHAPE.fullmatch(told):
        raise _Bad(f"{told!r} is no instance type; one looks like p5.48xlarge or a3-highgpu-8g")
    return told


def _kind(row: Fields) -> str:
    told = row["price_kind"].lower().replace("-", "_")
    if told not in KINDS:
        raise _Bad(f"price_kind = {row['price_kind']!r}: must be one of {', '.join(sorted(set(KINDS)))}")
    return KINDS[told]


def _usd(told: str) -> MicroUsdPerHour:
    try:
        micro = price(told)
    except (ValueError, ArithmeticError):
        raise _Bad(f"{told!r} is no price; dollars per hour look like 12.5") from None
    if not 0 < micro <= USD_MAX * MICRO:
        raise _Bad(f"{told} dollars per hour: must be above 0 and at most {USD_MAX}; leave an unknown price out")
    return micro


def _at(row: Fields, told: _Told) -> Instant:
    text = row.get("at") or row.get("date")
    if not text:
        if told.as_of is None:
            raise _Bad("no date: add a column `date`, or say how old all of the file is with --as-of 2026-11-22")
        return told.as_of
    at = instant(text)
    if at > told.now:
        raise _Bad(f"{text} has not come yet")
    return at


def instant(text: str) -> Instant:
    """A date or a time; UTC where it has no zone. Raises ValueError."""
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise _Bad(f"{text!r} is no date; one looks like 2026-11-22 or 2026-11-22T18:00Z") from None
    return Instant(round(at.replace(tzinfo=at.tzinfo or UTC).timestamp() * 1_000))


def _source(row: Fields) -> str:
    return f"imported, {row['source']}" if row.get("source") else "imported"
