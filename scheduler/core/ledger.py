"""The ledger: every interval of every machine at the price in force, and the shape's on-demand price beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from dsched.scheduler.core.draft import Draft, insert
from dsched.scheduler.core.event import Change
from dsched.scheduler.core.market import Market, Quote
from dsched.scheduler.core.snapshot import Budget, Job, LedgerEntry, Node, State
from dsched.scheduler.core.units import Charge, Instant, MicroUsd, MicroUsdPerHour, Millis, charge, to_charge

DEFAULT: Final = "default"  # the budget of what nobody in particular uses: idle nodes
BOOKED_KEPT: Final = 8  # entries that can be taken back: the end of a machine is known seconds later


def budget_of(state: State, node: Node) -> str:
    job = state.jobs.get(node.job)
    return job.spec.budget if job else DEFAULT


def interval(state: State, node: Node, until: Instant) -> LedgerEntry | None:
    """What `node` owes since it was last metered; None when nothing is."""
    if node.metered is None or until <= node.metered:
        return None
    return _entry(state, node, "compute", node.metered, until)


def open_charge(node: Node, until: Instant) -> tuple[Charge, Charge]:
    """Spend and baseline of the interval that is still open, to show them before they are booked."""
    if node.metered is None or until <= node.metered:
        return Charge(0), Charge(0)
    return _charges(node, Millis(until - node.metered))


def meter(draft: Draft, node: Node, until: Instant) -> Node:
    """Book the open interval up to `until` (market time)."""
    entry = interval(draft.state, node, until)
    if entry is None:
        return node
    return _book(draft, node, entry)


def close(draft: Draft, node: Node, ended: Instant) -> Node:
    """Book the last interval and, for a machine that lived shorter than the billing minimum, the rest of it.

    What was booked past the end, before anybody knew of it, is taken back.
    """
    node = last = meter(draft, node, ended)
    for entry in reversed(node.booked):
        if entry.end > ended:
            node = _book(draft, node, _taken_back(entry, max(entry.start, ended)))
            last = replace(
                node, rate=entry.rate, rate_source=entry.source, rate_at=entry.quoted, on_demand=entry.on_demand
            )
    least = Instant((node.launched or ended) + draft.terms.minimum)
    if node.launched is not None and node.metered is not None and node.metered < least:
        rest = _entry(draft.state, last, "minimum", node.metered, least)
        payer = _last_run(draft.state, node)
        return _book(draft, node, replace(rest, job=payer.job, budget=payer.budget) if payer else rest)
    return node


def _last_run(state: State, node: Node) -> LedgerEntry | None:
    """What was booked last on a job that still has a row: it pays for a machine's least, out of the same budget."""
    return next((entry for entry in reversed(node.booked) if entry.job in state.jobs), None)


def reprice(draft: Draft, node: Node, quote: Quote, on_demand: MicroUsdPerHour | None) -> Node:
    """A price step splits the interval at the moment it was observed."""
    at = min(max(quote.at, node.metered or quote.at), draft.now.market)
    node = meter(draft, node, Instant(at))
    return draft.node(
        node,
        "repriced",
        why=f"{node.pool.id} now costs {quote.price / 1e6:.4f} $/h",
        rate=quote.price,
        rate_source=quote.source,
        rate_at=quote.at,
        on_demand=on_demand if on_demand is not None else node.on_demand,
    )


def _entry(state: State, node: Node, kind: str, start: Instant, end: Instant) -> LedgerEntry:
    owed, baseline = _charges(node, Millis(end - start))
    return LedgerEntry(
        node=node.id,
        job=node.job,
        budget=budget_of(state, node),
        pool=node.pool.id,
        kind=kind,
        rate=node.rate,
        on_demand=node.on_demand,
        start=start,
        end=end,
        source=node.rate_source,
        quoted=node.rate_at,
        owed=owed,
        baseline=baseline,
    )


def _charges(node: Node, lasting: Millis) -> tuple[Charge, Charge]:
    """What so long a time of it costs, and would have cost on demand."""
    beside = node.on_demand if node.on_demand is not None else node.rate
    return charge(node.rate, lasting), charge(beside, lasting)


def _taken_back(entry: LedgerEntry, start: Instant) -> LedgerEntry:
    lasting = Millis(entry.end - start)
    baseline = entry.rate if entry.on_demand is None else entry.on_demand
    owed, beside = Charge(-charge(entry.rate, lasting)), Charge(-charge(baseline, lasting))
    return replace(entry, kind="correction", start=start, owed=owed, baseline=beside)


def book_stray(draft: Draft, entry: LedgerEntry) -> None:
    """An interval of a machine that has no row. The key holds when it was booked: found twice, it is paid twice."""
    key = f"{entry.node}/{entry.start}/{entry.kind}/{draft.now.wall}"
    draft.say("ledger.booked", insert("ledger", key, entry), _spent(draft.state, entry), node=entry.node)


def book_egress(draft: Draft, node: Node, job: Job, amount: MicroUsd, source: str) -> None:
    """What it cost to read the job's checkpoint from another region: list price x size. On demand it had stayed."""
    at, owed = draft.now.market, to_charge(amount)
    entry = LedgerEntry(
        node=node.id,
        job=job.id,
        budget=job.spec.budget,
        pool=node.pool.id,
        kind="egress",
        rate=MicroUsdPerHour(0),
        on_demand=None,
        start=at,
        end=at,
        source=source,
        quoted=at,
        owed=owed,
        baseline=Charge(0),
    )
    spent = Change("job", job.id, {"spent": Charge(job.spent + owed)})
    changes = (insert("ledger", f"{node.id}/{at}/egress", entry), _spent(draft.state, entry), spent)
    draft.say("ledger.booked", *changes, job=job.id, node=node.id)


def _spent(state: State, entry: LedgerEntry) -> Change:
    budget = state.budgets.get(entry.budget)
    if budget is None:
        return insert("budget", entry.budget, Budget(name=entry.budget, spent=entry.owed))
    return Change("budget", entry.budget, {"spent": Charge(budget.spent + entry.owed)})


def _book(draft: Draft, node: Node, entry: LedgerEntry) -> Node:
    state = draft.state
    changes = [
        insert("ledger", f"{entry.node}/{entry.start}/{entry.kind}", entry),
        Change("node", node.id, _metered(node, entry)),
        _spent(state, entry),
    ]
    job = state.jobs.get(entry.job)
    if job:
        spent, baseline = Charge(job.spent + entry.owed), Charge(job.baseline + entry.baseline)
        changes.append(Change("job", job.id, {"spent": spent, "baseline": baseline, **_hours(job, node, entry)}))
    draft.say("ledger.booked", *changes, job=entry.job, node=entry.node)
    return state.nodes.get(node.id, node)


def _hours(job: Job, node: Node, entry: LedgerEntry) -> dict[str, object]:
    """Machine time booked on the job, and what of it was spot."""
    lasting = (entry.end - entry.start) * (-1 if entry.kind == "correction" else 1)
    spot = lasting if node.pool.market is Market.SPOT else 0
    return {"machine": Millis(job.machine + lasting), "spot": Millis(job.spot + spot)}


def _metered(node: Node, entry: LedgerEntry) -> dict[str, object]:
    if entry.kind == "correction":
        return {"metered": entry.start}
    return {"metered": entry.end, "booked": (*node.booked, entry)[-BOOKED_KEPT:]}
