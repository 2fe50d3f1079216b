"""What was decided for a job with a deadline, in a sentence and as figures to store."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, Final

from dsched.scheduler.core.deadline.view import Decision, JobView, Observation, Option
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.timely.rule import Terms
from dsched.scheduler.core.units import SECOND

DAY: Final = 24 * 60
MONTHS: Final = ("Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb")
WAITS: Final = "waits for cheaper capacity"
DEAREST: Final = 10.0  # times what the dearest option costs: beyond that it is the price of being late, and no sum


def clock(seconds: float, now: float) -> str:
    """A market instant as the time of day, with its date where that is another: "14:20 UTC", "Nov 24 14:20 UTC"."""
    day, minute = divmod(int(seconds // 60), DAY)
    date = "" if day == int(now // 60) // DAY else f"{_date(day)} "
    return f"{date}{minute // 60:02}:{minute % 60:02} UTC"


def _date(day: int) -> str:
    """ "Nov 24", of days since 1970: Hinnant's days_to_civil, with years that begin in March."""
    of_era = (day + 719_468) % 146_097  # an era has 400 years
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    return f"{MONTHS[month]} {of_year - (153 * month + 2) // 5 + 1:02}"


def slack_words(seen: Observation, decision: Decision) -> str:
    """ "slack 3.1 h at $2.10/h" """
    price = slack_price(seen, decision)
    worth = f" at ${price:,.2f}/h" if price else ", none to spare" if decision.why.slack_price > 0 else ""
    return f"slack {decision.why.slack / 3600:.1f} h{worth}"


def slack_price(seen: Observation, decision: Decision) -> float | None:
    """$/h. None: the policy has none, or another hour less would cost the deadline."""
    price = decision.why.slack_price
    return price if math.isfinite(price) and price <= DEAREST * max(o.price for o in seen.options) else None


def expected(seen: Observation, cost: float) -> float | None:
    """Dollars to the end. None: not reckoned, or so likely to be late that most of it is the price of that."""
    job = seen.job
    plain = max(o.egress + o.price * (job.left / o.speed + o.changeover) / 3600.0 for o in seen.options)
    return cost if math.isfinite(cost) and abs(cost) <= DEAREST * max(plain, 1.0) else None


def waits(seen: Observation, decision: Decision) -> str:
    """Why a job that could run somewhere is not placed, and when that ends at the latest."""
    last = net_at(seen)
    sure = (
        f"buys sure capacity at {clock(last, seen.now)} at the latest"
        if last is not None
        else "nothing sure is on offer"
    )
    return f"{WAITS} until {clock(decision.revisit_at, seen.now)}: {slack_words(seen, decision)}; {sure}"


def chooses(seen: Observation, decision: Decision) -> str:
    """Why it goes where it goes."""
    if decision.why.net:
        return f"decided by the deadline's safety net: {slack_words(seen, decision)}"
    cost = expected(seen, decision.why.costs[decision.target or ""])
    more = f", ${cost:,.2f} expected with all later moves" if cost is not None else ""
    return f"decided by policy {decision.why.policy}: {slack_words(seen, decision)}{more}"


def net_at(seen: Observation) -> float | None:
    """The last instant (market s) at which some sure option still ends in time. None: there is no sure option."""
    job = seen.job
    needs = [
        job.left / o.speed + o.changeover for o in seen.options if o.market is not Market.SPOT and o.up is not False
    ]
    return job.deadline - min(needs) if needs else None


def to_wire(seen: Observation, decision: Decision, terms: Terms, rule: str, outlook: Any) -> dict[str, Any]:
    """The decision with all that is needed to make it again: see flip.py. What is too likely to be late costs null."""
    why = decision.why
    kept = sorted(
        seen.options, key=lambda o: (o.id != seen.job.running, o.id != decision.target, _known(why.costs[o.id]))
    )
    last = net_at(seen)
    return {
        "policy": why.policy,
        "rule": rule,
        "target": decision.target,
        "revisit": round(decision.revisit_at * SECOND),
        "slack_s": why.slack,
        "slack_price": slack_price(seen, decision),
        "net": why.net,
        "net_at": None if last is None else round(last * SECOND),
        "costs": {id: expected(seen, cost) for id, cost in why.costs.items()},
        "terms": asdict(terms),
        "outlook": outlook,
        "observation": {
            "now": seen.now,
            "grain": seen.grain,
            "job": asdict(seen.job),
            "options": [_option(option) for option in kept],
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
