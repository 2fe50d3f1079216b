"""Offers from machine types, prices, reservations and advice. Plain functions; provider.py fetches."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final

from dsched.providers import catalog
from dsched.providers.gcp.names import PROVIDER, region
from dsched.providers.gcp.prices import Book, Usage
from dsched.providers.gcp.rows import Held, MachineType
from dsched.scheduler.core.hardware import Accelerator, Shape
from dsched.scheduler.core.hold import SUNK
from dsched.scheduler.core.market import Advice, Market, Offer, Pool, Quote
from dsched.scheduler.core.units import HOUR, Instant, MicroUsdPerHour, Millis

BOOT: Final = Millis(90_000)  # from insert to the agent's first word, typical
HISTORY: Final = "advice.capacityHistory"
MIB: Final = 1_024
RATE_MAX: Final = 0.999  # of machines taken back in an interval; all of them would be an infinite hazard

CHIPS: Final = {  # accelerator type of the API -> name in the catalog
    "nvidia-tesla-a100": "A100-40",
    "nvidia-a100-80gb": "A100-80",
    "nvidia-h100-80gb": "H100",
    "nvidia-h100-mega-80gb": "H100",
    "nvidia-h200-141gb": "H200",
    "nvidia-b200": "B200",
    "nvidia-l4": "L4",
    "nvidia-tesla-t4": "T4",
    "nvidia-tesla-v100": "V100",
    "tpu-v5e": "TPU-v5e",
    "tpu-v5p": "TPU-v5p",
    "tpu-v6e": "TPU-v6e",
}
FAMILIES: Final = ("a2", "a3", "a4", "a4x", "g2", "g4")  # the machines that come with accelerators
_TPU: Final = re.compile(r"(ct5lp?|ct5p|ct6e)-.*-(\d+)t")
_TPU_CHIP: Final = {"ct5l": "tpu-v5e", "ct5lp": "tpu-v5e", "ct5p": "tpu-v5p", "ct6e": "tpu-v6e"}


@dataclass(frozen=True, slots=True)
class Insight:
    """What the Advice API says of one zone and shape on spot."""

    advice: Advice | None = None
    hazard: float | None = None  # interruptions per hour, from the history of preemptions


def pattern(shapes: Sequence[str], *, tpus: bool) -> str:
    """A regular expression over the names that `chosen` may want, for the service to choose by."""
    families = "|".join([*FAMILIES, *(_TPU_CHIP if tpus else ())])
    named = [shape for shape in shapes if re.fullmatch(r"[a-z0-9-]+", shape)]
    return "|".join([f"({families})-.*", *named])


def chosen(kinds: Iterable[MachineType], shapes: Sequence[str], *, tpus: bool) -> list[MachineType]:
    """Those to offer: with an accelerator that we know and a glob that matches, or named whole."""
    named = [_with_chips(kind) for kind in kinds]
    return [kind for kind in named if _wanted(kind, shapes, tpus=tpus)]


def _wanted(kind: MachineType, shapes: Sequence[str], *, tpus: bool) -> bool:
    if kind.chip.startswith("tpu-"):
        return tpus and any(fnmatchcase(kind.name, glob) for glob in shapes)
    if kind.name in shapes:
        return True
    return kind.chip in CHIPS and any(fnmatchcase(kind.name, glob) for glob in shapes)


def _with_chips(kind: MachineType) -> MachineType:
    """The name of a TPU machine tells its chips."""
    found = _TPU.fullmatch(kind.name)
    return kind if found is None else replace(kind, chip=_TPU_CHIP[found[1]], chips=int(found[2]))


def shape_of(kind: MachineType) -> Shape:
    """From the catalog, which knows its network too, else what the API tells."""
    known = catalog.load().shape(kind.name) or catalog.tpus().shape(kind.name)
    if known is not None:
        return known
    return Shape(
        name=kind.name,
        accelerator=_accelerator(kind.chip),
        gpus=kind.chips if kind.chip in CHIPS else 0,
        vcpus=kind.vcpus,
        memory_gib=kind.memory_mib // MIB,
    )


def _accelerator(chip: str) -> Accelerator | None:
    name = CHIPS.get(chip, "")
    return catalog.tpus().accelerator(name) if name.startswith("TPU-") else catalog.load().accelerator(name)


def offers(
    kinds: Iterable[MachineType],
    book: Book,
    held: Iterable[Held],
    insights: Mapping[tuple[str, str], Insight],
    notice: Millis,
    now: Instant,
) -> list[Offer]:
    """Every pool with a price. A pool without one could never be placed on."""
    kinds = list(kinds)
    bought = [one for kind in kinds for one in _bought(kind, book, insights.get((kind.zone, kind.name)), notice)]
    return bought + _reserved({(kind.zone, kind.name): kind for kind in kinds}, held, book, now)


def _bought(kind: MachineType, book: Book, insight: Insight | None, notice: Millis) -> list[Offer]:
    where, shape, made = region(kind.zone), shape_of(kind), []
    on_demand = book.quote(kind, Usage.ON_DEMAND)
    for market, usage in ((Market.SPOT, Usage.SPOT), (Market.ON_DEMAND, Usage.ON_DEMAND)):
        quote = book.quote(kind, usage)
        if quote is not None:
            offer = Offer(
                pool=Pool(PROVIDER, where, kind.zone, kind.name, market),
                shape=shape,
                quote=quote,
                on_demand=None if on_demand is None else on_demand.price,
                boot=BOOT,
            )
            made.append(offer if market is Market.ON_DEMAND else _spot(offer, insight or Insight(), notice))
    return made


def _spot(offer: Offer, insight: Insight, notice: Millis) -> Offer:
    return replace(offer, notice=notice, hazard=insight.hazard, advice=insight.advice)


def _reserved(
    kinds: Mapping[tuple[str, str], MachineType], held: Iterable[Held], book: Book, now: Instant
) -> list[Offer]:
    """Slots that are paid for already cost nothing more. One pool for all reservations of a zone and shape.

    It ends with the first of them.
    """
    free: dict[tuple[str, str], int] = {}
    ends: dict[tuple[str, str], Instant] = {}
    for one in held:
        free[one.zone, one.shape] = free.get((one.zone, one.shape), 0) + max(0, one.count - one.used)
        if one.until is not None:
            ends[one.zone, one.shape] = min(one.until, ends.get((one.zone, one.shape), one.until))
    made = []
    for (zone, name), slots in free.items():
        if kind := kinds.get((zone, name)):
            pool = Pool(PROVIDER, region(zone), zone, name, Market.RESERVED)
            listed = book.quote(kind, Usage.ON_DEMAND)
            made.append(
                Offer(
                    pool=pool,
                    shape=shape_of(kind),
                    quote=Quote(price=SUNK, at=now, source="reservation"),
                    on_demand=None if listed is None else listed.price,
                    free=slots,
                    hazard=0.0,
                    boot=BOOT,
                    until=ends.get((zone, name)),
                )
            )
    return made


def fitting(held: Iterable[Held], zone: str, shape: str, count: int) -> Held | None:
    """The reservation that takes a gang whole and is filled most by it; None: none does."""
    rooms = [one for one in held if (one.zone, one.shape) == (zone, shape) and one.count - one.used >= count]
    return min(rooms, key=lambda one: (one.count - one.used, one.name), default=None)


def insight(
    score: float | None, uptime: str, preemptions: Sequence[tuple[Instant, Instant, float]], days: int = 7
) -> Insight:
    """The newest `days` intervals as one rate: shares r of intervals of h hours are -ln(1 - r) / h an hour."""
    rates = [
        -math.log1p(-min(rate, RATE_MAX)) / ((end - start) / HOUR)
        for start, end, rate in sorted(preemptions)[-days:]
        if end > start and 0.0 <= rate <= 1.0
    ]
    hazard = sum(rates) / len(rates) if rates else None
    lasting = duration(uptime)
    known = score is not None or lasting is not None
    return Insight(Advice(obtainability=score, uptime=lasting) if known else None, hazard)


def past(told: Iterable[tuple[Instant, Instant, int]], since: Instant, until: Instant) -> list[Quote]:
    """Intervals of the list price as steps within that time."""
    return [
        Quote(price=MicroUsdPerHour(micro), at=max(since, start), source=HISTORY)
        for start, end, micro in sorted(told)
        if micro > 0 and start < until and end > since
    ]


def duration(text: str) -> Millis | None:
    """Seconds as the API writes them ("3600s") or ISO 8601 ("PT1H30M"); None: not told, or not read."""
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)s", text):
        return Millis(round(float(found[1]) * 1_000))
    found = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", text)
    if found is None or not any(found.groups()):
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return Millis((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1_000)
