"""Replay a folder of recorded markets (schema `dsched.trace/1`): capacity and price of one spot pool per file.

A trace names its pool by the fields `cloud`, `region`, `zone` and `shape`; where those are missing, by its own name as
the public trace collections write it ("aws22/us-west-2a_v100_1", "h100/us-east5-a"). At its end a trace begins again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from dsched.providers.local.tape import Step, Tape
from dsched.scheduler.core.units import MicroUsdPerHour, Millis, price

SCHEMA: Final = "dsched.trace/1"
FILES_MAX: Final = 1_000  # one pool each; more is a wrong folder
BYTES_MAX: Final = 32 << 20  # a year of one-minute ticks, run-length encoded, is far below this

AWS_ZONE: Final = re.compile(r"^(?P<region>[a-z]{2}(?:-[a-z]+)+-\d)(?P<letter>[a-z])$")
GCP_ZONE: Final = re.compile(r"^(?P<region>[a-z]+-[a-z]+\d+)-[a-z]$")
AWS_SHAPES: Final = {"k80_1": "p2.xlarge", "k80_8": "p2.8xlarge", "v100_4": "p3.8xlarge", "v100_8": "p3.16xlarge"}
AWS_SHAPE: Final = "p3.2xlarge"  # every other AWS trace: counts of single V100s
GCP_SHAPE: Final = "a3-highgpu-8g"


class BadTrace(Exception):
    """A trace that cannot be replayed: which file, why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    name: str
    cloud: str  # "aws" | "gcp"
    region: str
    zone: str
    shape: str
    on_demand: MicroUsdPerHour
    tape: Tape


def load(folder: Path, only: str = "*") -> list[Trace]:
    """Every trace of a folder, by name, or those whose file name matches. Raises BadTrace."""
    files = sorted(path for path in folder.glob("*.json") if fnmatchcase(path.stem, only.removesuffix(".json")))
    if not files:
        raise BadTrace(f"{folder}: no {only}.json traces here; give --trace the folder that holds them")
    if len(files) > FILES_MAX:
        raise BadTrace(f"{folder}: {len(files)} files, at most {FILES_MAX} are replayed at once")
    return _apart([_read(file) for file in files])


def parse(raw: Mapping[str, Any], *, file: str = "trace") -> Trace:
    """One trace from its JSON object. Raises BadTrace."""
    if raw.get("schema") != SCHEMA:
        raise BadTrace(f"{file}: schema is {raw.get('schema')!r}, not {SCHEMA!r}")
    try:
        cloud, region, zone, shape = _place(raw)
        gap = Millis(round(float(raw["gap_seconds"]) * 1000))
        counts = [(int(count), int(ticks)) for count, ticks in raw["counts_rle"]]
        steps = tuple(_steps(counts, _prices(raw), gap))
        length = Millis(sum(ticks for _, ticks in counts) * gap)
        on_demand = price(raw["od_price"])
    except (KeyError, TypeError, ValueError) as problem:
        raise BadTrace(f"{file}: {problem.__class__.__name__}: {problem}; see the schema {SCHEMA}") from problem
    if gap <= 0 or length <= 0 or any(count < 0 or ticks <= 0 for count, ticks in counts):
        raise BadTrace(f"{file}: gap_seconds and every run of counts_rle must be positive")
    return Trace(
        name=str(raw.get("name", file)),
        cloud=cloud,
        region=region,
        zone=zone,
        shape=shape,
        on_demand=on_demand,
        tape=Tape(length, lambda _: steps),
    )


def _read(file: Path) -> Trace:
    if file.stat().st_size > BYTES_MAX:
        raise BadTrace(f"{file}: larger than {BYTES_MAX >> 20} MiB")
    try:
        raw = json.loads(file.read_text())
    except ValueError as problem:
        raise BadTrace(f"{file}: not JSON: {problem}") from problem
    if not isinstance(raw, dict):
        raise BadTrace(f"{file}: not a JSON object")
    return parse(raw, file=str(file))


def _apart(traces: list[Trace]) -> list[Trace]:
    """Two recordings of one pool (different years) become two zones, the later one named after its collection."""
    seen: set[tuple[str, str]] = set()
    found = []
    for trace in traces:
        if (trace.zone, trace.shape) in seen:
            trace = replace(trace, zone=f"{trace.zone}-{trace.name.partition('/')[0]}")
        seen.add((trace.zone, trace.shape))
        found.append(trace)
    return found


def _place(raw: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """(cloud, region, zone, shape). The letter of an AWS zone stands for the number of its id."""
    if "zone" in raw:
        return str(raw["cloud"]), str(raw["region"]), str(raw["zone"]), str(raw["shape"])
    place, _, kind = str(raw["name"]).rpartition("/")[2].partition("_")
    if found := AWS_ZONE.match(place):
        region = found["region"]
        shape = str(raw.get("shape", AWS_SHAPES.get(kind, AWS_SHAPE)))
        return "aws", region, f"{_short(region)}-az{ord(found['letter']) - ord('a') + 1}", shape
    if found := GCP_ZONE.match(place):
        return "gcp", found["region"], place, str(raw.get("shape", GCP_SHAPE))
    raise ValueError(f"no zone in the name {raw['name']!r}: add cloud, region, zone and shape")


def _short(region: str) -> str:
    """ "us-west-2" -> "usw2", as AWS zone ids begin."""
    area, *direction, number = region.split("-")
    return f"{area}{''.join(word[0] for word in direction)}{number}"


def _prices(raw: Mapping[str, Any]) -> tuple[list[MicroUsdPerHour], int]:
    """Prices and for how many ticks each holds; the last one holds to the end."""
    if series := raw.get("spot_price_series"):
        return [price(value) for value in series], int(raw["spot_price_stride"])
    return [price(raw["spot_price"])], 1


def _steps(counts: Sequence[tuple[int, int]], prices: tuple[list[MicroUsdPerHour], int], gap: Millis) -> list[Step]:
    levels, tick = [], 0
    for count, ticks in counts:
        levels.append((tick, count))
        tick += ticks
    series, stride = prices
    held = [(i * stride, value) for i, value in enumerate(series) if i == 0 or value != series[i - 1]]
    steps: list[Step] = []
    i = j = since = 0
    for at in sorted({start for start, _ in (*levels, *held) if start < tick}):
        while i + 1 < len(levels) and levels[i + 1][0] <= at:
            i += 1
            if (levels[i][1] > 0) != (levels[i - 1][1] > 0):
                since = levels[i][0]
        while j + 1 < len(held) and held[j + 1][0] <= at:
            j += 1
        steps.append(Step(Millis(at * gap), levels[i][1], held[j][1], Millis(since * gap)))
    return steps
