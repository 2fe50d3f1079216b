"""The reasons of a plan: for one job, every offer exactly once, chosen or with a typed reason why not.

A report is written for the person who asks "why there, and why not here?" It is stored with the decision and printed by
`dsched plan` and `dsched explain`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from dsched.scheduler.core.hardware import Shape
from dsched.scheduler.core.job import Need
from dsched.scheduler.core.market import Pool
from dsched.scheduler.core.units import MICRO, Charge, Instant, MicroUsd, MicroUsdPerHour, Millis, Moment, text

REASONS_SHOWN: Final = 3  # in the one-sentence summary; the full counts stand beside it


class Why(StrEnum):
    """Why an offer was not chosen, in the order of asking: the later the reason, the closer it was to being chosen."""

    MARKET_NOT_WANTED = "market-not-wanted"
    PLACE_NOT_WANTED = "place-not-wanted"
    WRONG_ACCELERATOR = "wrong-accelerator"
    TOO_LITTLE_MEMORY = "too-little-memory"
    NO_FP8 = "no-fp8"
    TOO_FEW_GPUS = "too-few-gpus"  # the gang would need more nodes than one gang may have
    TOO_MANY_GPUS = "too-many-gpus"  # one node has more than the elastic range's maximum
    UNEVEN_GANG = "uneven-gang"  # no whole number of nodes lies within the elastic range
    UNEVEN_LAYOUT = "uneven-layout"  # no parallel layout of the model divides evenly over the gang
    DOES_NOT_FIT = "does-not-fit"  # the model needs more memory per GPU, however it is laid out
    NO_PRICE = "no-price"
    STALE_PRICE = "stale-price"
    OVER_PRICE_MAX = "over-price-max"
    ENDS_SOON = "ends-soon"  # what is held there ends before a gang would be of use, or before the work is done
    COOLING_DOWN = "cooling-down"
    NO_CAPACITY = "no-capacity"
    NOT_ENOUGH_FOR_GANG = "not-enough-for-gang"
    OVER_QUOTA = "over-quota"  # the account may not run so many there
    OVER_COST_MAX = "over-cost-max"
    OVER_SPOT_SHARE = "over-spot-share"
    OVER_BUDGET = "over-budget"
    LATE = "late"
    AVOIDED = "avoided"  # interrupted or refused this job lately; a last resort
    NEEDS_BUYING = "needs-buying"  # cheaper, but an idle node of ours is taken first
    LEFT_TO_OTHERS = "left-to-others"  # cheaper here, but a job that needs it more gets it: together that costs less
    WAITING = "waiting"  # it could be had, but the job has time, and waiting is expected to cost less
    DEARER = "dearer"

    @property
    def lasting(self) -> bool:
        """Only another spec helps; the others may pass with the market's mood."""
        return self in _LASTING


_LASTING: Final = frozenset(
    {
        Why.MARKET_NOT_WANTED,
        Why.PLACE_NOT_WANTED,
        Why.WRONG_ACCELERATOR,
        Why.TOO_LITTLE_MEMORY,
        Why.NO_FP8,
        Why.TOO_FEW_GPUS,
        Why.TOO_MANY_GPUS,
        Why.UNEVEN_GANG,
        Why.UNEVEN_LAYOUT,
        Why.DOES_NOT_FIT,
    }
)
_ORDER: Final = {why: place for place, why in enumerate(Why)}


class Refusal(NamedTuple):
    """A reason, and the same as one sentence with its numbers."""

    why: Why
    words: str


class Verdict(StrEnum):
    CHOSEN = "chosen"
    POSSIBLE = "possible"
    REFUSED = "refused"


class Value(NamedTuple):
    """What a gang of this size in this pool is expected to cost, and when it would be done."""

    nodes: int
    gpus: int
    price: MicroUsdPerHour  # the whole gang, now
    ceiling: MicroUsdPerHour  # per node: what the price may rise to within a lease
    reserve: Charge
    off: float | None  # 0..1 under on-demand of the same shape
    hazard: float  # interruptions of the gang per market hour
    goodput: float  # useful share of paid time, 0..1
    every: Millis  # market time between checkpoints
    per_useful_hour: float  # micro-dollars per hour of reference work
    # the rest is None where the remaining work is not known
    hours: float | None = None  # market, from now to the end of the work
    compute: MicroUsd | None = None  # the work itself
    redo: MicroUsd | None = None  # checkpoints, restarts and rework
    move: MicroUsd | None = None  # paid while booting
    finish: Instant | None = None
    speed: float = 1.0  # reference hours of work in an hour, before goodput
    egress: MicroUsd = MicroUsd(0)  # to bring the checkpoint there
    wait: Millis = Millis(0)  # market: from asking for machines to the first new step
    layout: str = ""  # of a known model: "tp8 pp2 dp2, cheap recompute"
    tokens_per_s: float | None = None  # of the gang while it works, for a known model
    per_mtoken: float | None = None  # micro-dollars per million tokens, goodput included
    watts: float = 0.0  # of the gang, cooling included
    grams: float | None = None  # of CO2 per kWh there; None: not known
    burden: float = 0.0  # micro-dollars per hour that energy and carbon weigh in the objective; nobody pays them to us

    @property
    def expected(self) -> MicroUsd | None:
        if self.compute is None or self.redo is None or self.move is None:
            return None
        return MicroUsd(self.compute + self.redo + self.move + self.egress)

    @property
    def kwh(self) -> float | None:
        """Of the remaining work."""
        return None if self.hours is None else self.watts / 1000.0 * self.hours

    @property
    def score(self) -> float:
        """Least is best; compare only values of one job. Expected cost where the work is known: the cost per useful
        hour with the boot shared out over the work."""
        expected = self.expected
        if expected is None or self.hours is None:
            return (
                self.per_useful_hour + self.burden / (self.speed * self.goodput)
                if self.burden
                else self.per_useful_hour
            )
        return expected + self.burden * self.hours


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One offer in a report."""

    offer: str  # pool id
    pool: Pool
    shape: Shape
    hazard: float  # of the gang, or of one node where there is no value
    value: Value | None  # None: no gang of this shape can be formed, or its price is not known
    verdict: Verdict
    code: Why | None  # None: chosen
    words: str = ""  # why refused; the other sentences depend on what was chosen, see `sentence`


class Kept(NamedTuple):
    """A brief report, in which `refused` counts the offers without a line, too."""

    offers: int  # on sale
    possible: int  # that would do, the chosen one included


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The decision for one job, or for all jobs of a class that could not be placed."""

    id: str  # of the choice: the same need, place, size and price give the same id
    at: Moment
    policy: str
    need: str
    lines: tuple[Line, ...]  # the chosen one, then the possible by cost, then the refused
    refused: Mapping[Why, int]
    summary: str
    kept: Kept | None = None  # of a large market only some offers have a line; None: every offer has one

    @property
    def chosen(self) -> Line | None:
        first = self.lines[0] if self.lines else None
        return first if first is not None and first.verdict is Verdict.CHOSEN else None

    @property
    def blocked(self) -> Why | None:
        """For a job that was not placed: the reason that came closest. None when placed, or nothing is on offer."""
        if self.chosen is not None or not self.refused:
            return None
        return max(self.refused, key=_ORDER.__getitem__)

    @property
    def hopeless(self) -> bool:
        """No offer can ever fit this spec: say so at submit rather than queue it."""
        return self.chosen is None and bool(self.refused) and all(why.lasting for why in self.refused)


def write(
    *, at: Moment, policy: str, need: Need, ranked: Sequence[Line], refused: Sequence[Line], reuse: int = 0
) -> Report:
    """Compose a report. `ranked` begins with the chosen line, if there is one; `reuse` of its nodes are ours."""
    counts = Counter(line.code for line in refused if line.code is not None)
    words = need_words(need)
    chosen = ranked[0] if ranked and ranked[0].verdict is Verdict.CHOSEN else None
    return Report(
        id=_choice_id(policy, need, chosen),
        at=at,
        policy=policy,
        need=words,
        lines=(*ranked, *refused),
        refused=counts,
        summary=_placed(chosen, reuse) if chosen else _unplaced(words, counts),
    )


def brief(few: Report, need: Need, refused: Mapping[Why, int], kept: Kept) -> Report:
    """A report on a few offers as one on all of them: `refused` and `kept` count all."""
    summary = few.summary if few.chosen is not None else _unplaced(need_words(need), refused)
    return replace(few, refused=refused, kept=kept, summary=summary)


def sentence(line: Line, chosen: Line | None) -> str:
    """Why this line stands where it stands."""
    if line.words or line.verdict is Verdict.CHOSEN or line.value is None or chosen is None or chosen.value is None:
        return line.words
    mine, best = line.value.score, chosen.value.score
    change = f"{abs(mine / best - 1):.0%}" if best else "any amount"
    if line.code is Why.NEEDS_BUYING:
        return f"{change} cheaper, but it has to be bought while idle nodes are already paid for"
    if mine == best:
        return "costs the same; the name decides, so that equal questions get equal plans"
    return f"{change} dearer by expected cost"


def need_words(need: Need) -> str:
    """ "8..32 x H100 or H200, fp8" """
    if need.cpu_only:
        return "a machine, no GPU needed"
    size = f"{need.gpus_min}" if need.gpus_min == need.gpus_max else f"{need.gpus_min}..{need.gpus_max}"
    parts = [f"{size} x {' or '.join(need.accelerators) or 'any GPU'}"]
    if need.gpu_memory_gib:
        parts.append(f"{need.gpu_memory_gib} GiB each")
    if need.fp8_required or need.fp8:
        parts.append("fp8 required" if need.fp8_required else "fp8")
    if need.spot_share < 1.0:
        parts.append(f"at most {need.spot_share:.0%} spot" if need.spot_share else "no spot")
    return ", ".join(parts)


def dollars(micro: float) -> str:
    """For sentences: two decimals, four below ten cents so that small prices do not read as nothing."""
    amount = micro / MICRO
    return f"${amount:,.2f}" if amount >= 0.1 or amount == 0 else f"${amount:.4f}"


def to_wire(
    report: Report, *, id: str | None = None, job: str = "", name: str = "", lasting: bool = True
) -> dict[str, Any]:
    """The report as wire/api.Plan. A dry run keeps the report's own id, a stored decision brings its own.

    Without `lasting`, offers that no market could ever make fit this spec are only counted in `refused`.
    """
    chosen = report.chosen
    lines = report.lines if lasting else [line for line in report.lines if line.code is None or not line.code.lasting]
    return {
        "id": report.id if id is None else id,
        "job": job,
        "name": name,
        "at": report.at.market,
        "policy": report.policy,
        "need": report.need,
        "chosen": None if chosen is None else chosen.offer,
        "summary": report.summary,
        "lines": [_line_to_wire(line, chosen) for line in lines],
        "refused": {str(why): count for why, count in report.refused.items()},
        **({"kept": report.kept._asdict()} if report.kept else {}),
    }


def _line_to_wire(line: Line, chosen: Line | None) -> dict[str, Any]:
    value = line.value
    return {
        "offer": line.offer,
        "shape": line.shape.name,
        "accelerator": line.shape.accelerator.name if line.shape.accelerator else "",
        "market": str(line.pool.market),
        "nodes": value.nodes if value else 0,
        "gpus": value.gpus if value else 0,
        "price": _text(value.price if value else None),
        "off": value.off if value else None,
        "hazard": line.hazard,
        "goodput": value.goodput if value else 0.0,
        "per_useful_hour": _text(round(value.per_useful_hour) if value else None),
        "hours": value.hours if value else None,
        "compute": _text(value.compute if value else None),
        "redo": _text(value.redo if value else None),
        "move": _text(value.move if value else None),
        "expected": _text(value.expected if value else None),
        "finish": value.finish if value else None,
        "verdict": str(line.verdict),
        "code": str(line.code or ""),
        "why": sentence(line, chosen),
        **(_terms(value) if value else {}),
    }


def _terms(value: Value) -> dict[str, Any]:
    """What makes up the cost besides; what does not apply is left out, since a decision stores many lines."""
    terms: dict[str, Any] = {"speed": round(value.speed, 4), "wait_s": value.wait / 1000}
    if value.egress:
        terms["egress"] = text(value.egress)
    if value.tokens_per_s is not None and value.per_mtoken is not None:
        terms |= {"tokens_per_s": round(value.tokens_per_s, 1), "per_mtoken": text(round(value.per_mtoken))}
    if value.layout:
        terms["layout"] = value.layout
    if value.kwh is not None:
        terms["kwh"] = round(value.kwh, 2)
        if value.grams is not None:
            terms["co2_kg"] = round(value.kwh * value.grams / 1000, 2)
    return terms


def _text(amount: int | None) -> str | None:
    return None if amount is None else text(amount)


def _choice_id(policy: str, need: Need, chosen: Line | None) -> str:
    where = (chosen.offer, chosen.value.nodes, chosen.value.price) if chosen and chosen.value else None
    return blake2b(repr((policy, need, where)).encode(), digest_size=6).hexdigest()


def _placed(line: Line, reuse: int) -> str:
    value = line.value
    assert value is not None, "a line without a value cannot be chosen"
    chip = line.shape.accelerator
    gang = f"{value.nodes} x {line.shape.name}" + (f" ({value.gpus} x {chip.name})" if chip else "")
    words = [f"{gang} at {line.pool.provider}/{line.pool.zone}, {line.pool.market}, {dollars(value.price)}/h"]
    if reuse:
        words.append(f"{reuse} of them idle and ours already" if reuse < value.nodes else "idle and ours already")
    if value.off:
        words.append(f"{value.off:.0%} under on-demand")
    words.append(f"{value.goodput:.0%} of the paid time useful")
    if value.hours is not None and value.expected is not None:
        words.append(f"done in about {value.hours:.1f} h for {dollars(value.expected)}")
    return "; ".join(words)


def _unplaced(need: str, counts: Mapping[Why, int]) -> str:
    if not counts:
        return f"no offer at all for {need}: no provider has told prices yet"
    closest = sorted(counts, key=_ORDER.__getitem__, reverse=True)
    shown = ", ".join(f"{counts[why]} {why}" for why in closest[:REASONS_SHOWN])
    hidden = sum(counts[why] for why in closest[REASONS_SHOWN:])
    return f"none of {sum(counts.values())} offers fits {need}: {shown}" + (f", {hidden} for others" if hidden else "")
