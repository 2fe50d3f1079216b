"""A decision under a deadline as text: how much slack and what it is worth, the safety net, and what would flip it."""

from __future__ import annotations

from typing import Final

from dsched.scheduler.core.units import Instant, Moment
from dsched.scheduler.view import format as f
from dsched.scheduler.view.safe import show
from dsched.scheduler.wire.api import Deadline, Flip

COSTS: Final = 4  # options whose expected cost is named


def deadline_text(told: Deadline, now: Moment) -> list[str]:
    """Two lines and one per flip."""
    price = told["slack_price"]
    worth = f", an hour of it is worth {f.dollars(f'{price:.2f}')}" if price else ""
    net = f"sure capacity by {f.clock(told['net_at'], now.market)} at the latest" if told["net_at"] else "nothing sure"
    text = [
        f"  deadline: slack {f.duration(told['slack_s'])}{worth}; {_decided(told)}; {net}; "
        + (f"looks again {f.clock(told['revisit'], now.market)}" if told["revisit"] > now.market else "looked at since")
    ]
    known = sorted((cost, id) for id, cost in told["costs"].items() if cost is not None)
    if known:
        text.append("  expected to the end: " + ", ".join(f"{_option(id)} {_usd(cost)}" for cost, id in known[:COSTS]))
    if told.get("same") is False or (told.get("note") and told.get("same") is None):
        text.append(f"  {show(told.get('note') or '')}")
    text += [f"  would change: {_flip(flip, now)}" for flip in told.get("flips") or []]
    return text


def _decided(told: Deadline) -> str:
    """What decided, and why that and not the policy that is set."""
    if told["net"]:
        return "the safety net decided"
    policy, rule, terms = show(told["policy"]), show(told["rule"]), told["terms"]
    if policy == rule:
        return f"{policy} decided"
    return f"{policy} decided, {f'until {rule} has its outlook' if terms.get('soon') else f'{rule} has no outlook'}"


def _flip(flip: Flip, now: Moment) -> str:
    then = "it would wait" if flip["then"] is None else f"{_option(flip['then'])} would be taken"
    if flip["what"] == "deadline":
        when = "before" if flip["at"] < flip["now"] else "after"
        return f"a deadline {when} {f.clock(Instant(round(flip['at'] * 1000)), now.market)}: {then}"
    side = "above" if flip["at"] > flip["now"] else "below"
    if flip["what"] == "hazard":
        return f"{flip['at'] / flip['now']:.1f} times the interruptions at {_option(flip['option'])}: {then}"
    change = flip["at"] / flip["now"] - 1
    return f"{_option(flip['option'])} {side} {_usd(flip['at'])}/h ({change:+.0%}): {then}"


def _option(id: str) -> str:
    """ "local/use1-az1 p5.48xlarge spot"; with the number of nodes where there are several."""
    if not id:
        return "waiting"
    pool, _, nodes = id.rpartition("*")
    return show(f.place(pool) + (f" x {nodes}" if nodes != "1" else ""))


def _usd(amount: float) -> str:
    return f.dollars(f"{amount:.2f}")
