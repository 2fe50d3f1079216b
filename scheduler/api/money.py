"""Bills, budgets and the sum of all, as the wire shows them. What runs is counted up to now, booked or not."""

from __future__ import annotations

from collections.abc import Sequence

from dsched.scheduler.api.rows import burn
from dsched.scheduler.core.budget import totals
from dsched.scheduler.core.ledger import DEFAULT, interval
from dsched.scheduler.core.snapshot import Budget, LedgerEntry, Node, State
from dsched.scheduler.core.units import Charge, Moment, text, to_micro_usd
from dsched.scheduler.wire import api as wire


def bill(state: State, job: str, booked: Sequence[LedgerEntry], now: Moment, note: str) -> wire.Bill:
    entries = _up_to_now(state, booked, [node for node in state.nodes.values() if node.job == job], now)
    spent, baseline = _sums(entries)
    return {
        "job": job,
        "lines": [_line(entry) for entry in entries],
        "spent": text(spent),
        "baseline": text(baseline),
        "saved": text(baseline - spent),
        "saved_share": (baseline - spent) / baseline if baseline else None,
        "market_note": note,
    }


def money(state: State, owed: Charge, beside: Charge, now: Moment) -> wire.Money:
    """`owed` and `beside`: everything booked so far, at our prices and on demand."""
    running = _up_to_now(state, (), list(state.nodes.values()), now)
    spent = to_micro_usd(Charge(owed + sum(entry.owed for entry in running)))
    baseline = to_micro_usd(Charge(beside + sum(entry.baseline for entry in running)))
    budgets = budget_rows(state, now)
    reserved = sum(ahead for _, ahead in totals(state, now).values())
    return {
        "burn": text(burn(state.nodes.values())),
        "spent": text(spent),
        "baseline": text(baseline),
        "saved": text(baseline - spent),
        "reserved": text(to_micro_usd(Charge(reserved))),
        "budgets": budgets,
    }


def budget_rows(state: State, now: Moment) -> list[wire.Budget]:
    sums = totals(state, now)
    known = {DEFAULT: Budget(name=DEFAULT), **state.budgets}
    return [_budget(budget, *sums.get(name, (budget.spent, Charge(0)))) for name, budget in sorted(known.items())]


def _budget(budget: Budget, owed: Charge, ahead: Charge) -> wire.Budget:
    spent, limit = to_micro_usd(owed), budget.limit
    return {
        "name": budget.name,
        "limit": None if limit is None else text(limit),
        "spent": text(spent),
        "reserved": text(to_micro_usd(ahead)),
        "left": None if limit is None else text(max(0, limit - spent)),
        "used": spent / limit if limit else None,
        "exhausted": budget.exhausted,
        "fired": list(budget.fired),
    }


def _up_to_now(state: State, booked: Sequence[LedgerEntry], nodes: Sequence[Node], now: Moment) -> list[LedgerEntry]:
    """Booked entries and the open intervals behind them; what was booked since the store was read counts once."""
    read = {(entry.node, entry.start) for entry in booked}
    running = (interval(state, node, now.market if node.ended is None else node.ended) for node in nodes)
    return [*booked, *(entry for entry in running if entry is not None and (entry.node, entry.start) not in read)]


def _sums(entries: Sequence[LedgerEntry]) -> tuple[int, int]:
    owed, baseline = sum(entry.owed for entry in entries), sum(entry.baseline for entry in entries)
    return to_micro_usd(Charge(owed)), to_micro_usd(Charge(baseline))


def _line(entry: LedgerEntry) -> wire.BillLine:
    return {
        "node": entry.node,
        "where": entry.pool,
        "kind": entry.kind,
        "start": entry.start,
        "end": entry.end,
        "rate": text(entry.rate),
        "owed": text(to_micro_usd(entry.owed)),
        "baseline": None if entry.on_demand is None else text(to_micro_usd(entry.baseline)),
        "source": entry.source,
        "quote_age_s": (entry.start - entry.quoted) / 1e3,
    }
