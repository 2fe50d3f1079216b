"""What was decided for a job with a deadline, in a sentence and as figures to store."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, Final

from dsched.scheduler.core.deadline.decide import UNPAYABLE
from dsched.scheduler.core.deadline.view import Decision, JobView, Observation, Option
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.timely.rule import Terms
from dsched.scheduler.core.units import MINUTE, SECOND

OPTIONS_KEPT: Final = 256  # in a stored decision, the cheapest of them: some 30 KB
FALLBACKS_KEPT: Final = 5
WAITS: Final = "waits for cheaper capacity"
DAY: Final = 24 * 60


def clock(seconds: float) -> str:
    """A market instant as the time of day: "14:20 UTC"."""
    minute = int(seconds * SECOND) // MINUTE % DAY
    return f"{minute // 60:02}:{minute % 60:02} UTC"


def slack_words(decision: Decision) -> str:
    """ "slack 3.1 h at $2.10/h" """
    why = decision.why
    price = f" at ${why.slack_price:.2f}/h" if math.isfinite(why.slack_price) and why.slack_price > 0 else ""
    return f"slack {why.slack / 3600:.1f} h{price}"


def waits(seen: Observation, decision: Decision) -> str:
    """Why a job that could run somewhere is not placed, and when that ends at the latest."""
    last = net_at(seen)
    sure = f"; buys sure capacity at {clock(last)} at the latest" if last is not None else "; nothing sure is on offer"
    return f"{WAITS} until {clock(decision.revisit_at)}: {slack_words(decision)}{sure}"


def chooses(seen: Observation, decision: Decision) -> str:
    """Why it goes where it goes."""
    if decision.why.net:
        return f"decided by the deadline's safety net with {slack_words(decision)}"
    return f"decided by {decision.why.policy} with {slack_words(decision)}"


def net_at(seen: Observation) -> float | None:
    """The last instant (market s) at which some sure option still ends in time. None: there is no sure option."""
    job = seen.job
    needs = [
        job.left / o.speed + o.changeover for o in seen.options if o.market is not Market.SPOT and o.up is not False
    ]
    return job.deadline - min(needs) if needs else None


def to_wire(seen: Observation, decision: Decision, terms: Terms, rule: str, outlook: Any) -> dict[str, Any]:
    """The decision with all that is needed to make it again: see flip.py. What nobody can pay costs null."""
    why = decision.why
    kept = sorted(
        seen.options, key=lambda o: (o.id != seen.job.running, o.id != decision.target, _known(why.costs[o.id]))
    )
    last = net_at(seen)
    return {
        "policy": why.policy,
        "rule": rule,
        "target": decision.target,
        "fallbacks": list(decision.fallbacks[:FALLBACKS_KEPT]),
        "revisit": round(decision.revisit_at * SECOND),
        "slack_s": why.slack,
        "slack_price": why.slack_price if math.isfinite(why.slack_price) else None,
        "net": why.net,
        "net_at": None if last is None else round(last * SECOND),
        "costs": {id: cost if abs(cost) < UNPAYABLE else None for id, cost in why.costs.items()},
        "terms": asdict(terms),
        "outlook": outlook,
        "observation": {
            "now": seen.now,
            "grain": seen.grain,
            "job": asdict(seen.job),
            "options": [_option(option) for option in kept[:OPTIONS_KEPT]],
        },
    }


def from_wire(told: dict[str, Any], outlook: Any) -> tuple[Observation, Terms]:
    """The observation and the terms of a stored decision. Raises KeyError or TypeError for what is none."""
    seen = told["observation"]
    options = [Option(**{**option, "market": Market(option["market"])}) for option in seen["options"]]
    observation = Observation(
        now=seen["now"], grain=seen["grain"], options=options, job=JobView(**seen["job"]), outlook=outlook
    )
    return observation, Terms(**told["terms"])


def _option(option: Option) -> dict[str, Any]:
    return {**asdict(option), "market": str(option.market)}


def _known(cost: float) -> float:
    return cost if math.isfinite(cost) else math.inf
