"""Budgets: what is spent, what leases have promised, what is left.

A lease is spend promised beforehand: every live machine holds back its price ceiling up to the end of its lease.
"""

from __future__ import annotations

from dsched.scheduler.core.ledger import budget_of, open_charge
from dsched.scheduler.core.snapshot import Budget, Node, State
from dsched.scheduler.core.units import Charge, Instant, MicroUsdPerHour, Millis, Moment, reserve, to_charge


def ceiling(node: Node) -> MicroUsdPerHour:
    """The most an hour of this node may come to cost within its lease."""
    return max(node.rate, node.ceiling)


def promised(state: State, node: Node, now: Moment) -> Charge:
    """What the rest of the node's lease may cost."""
    left = Millis(int((node.lease_until - now.wall) * state.scale))
    return reserve(ceiling(node), left)


def totals(state: State, now: Moment) -> dict[str, tuple[Charge, Charge]]:
    """Per budget: spent (the open intervals too) and promised by leases."""
    sums = {name: (budget.spent, Charge(0)) for name, budget in state.budgets.items()}
    for node in state.nodes.values():
        name = budget_of(state, node)
        spent, ahead = sums.get(name, (Charge(0), Charge(0)))
        running, _ = open_charge(node, now.market)
        sums[name] = (Charge(spent + running), Charge(ahead + promised(state, node, now)))
    return sums


def room(state: State, now: Moment) -> dict[str, Charge | None]:
    """Per budget: what may still be promised; None is no limit."""
    if all(budget.limit is None for budget in state.budgets.values()):
        return dict.fromkeys(state.budgets)
    sums = totals(state, now)
    return {name: left(budget, *sums[name]) for name, budget in state.budgets.items()}


def left(budget: Budget, spent: Charge, ahead: Charge) -> Charge | None:
    """Below 0 where the limit was cut after leases were granted: then a lease that is taken over is no room gained."""
    return None if budget.limit is None else Charge(to_charge(budget.limit) - spent - ahead)


def affordable(state: State, node: Node, until: Instant, now: Moment) -> Instant:
    """How far the budget carries the node's lease, at most `until`; never before where it already ends."""
    budget = state.budgets.get(budget_of(state, node))
    if budget is None or budget.limit is None:
        return until
    spent, ahead = totals(state, now)[budget.name]
    free = left(budget, spent, ahead) or Charge(0)
    if budget.exhausted or free <= 0:
        return node.lease_until
    longer = int(free / ceiling(node) / state.scale)
    return Instant(min(until, max(now.wall, node.lease_until) + longer))
