"""The wall clock was set back: what waits for an instant, or counts from one, would wait so much longer.

Back-offs, repeated calls, idle machines, and (since market time is reckoned from wall time) cool-downs and revisits
move with the clock. Deadlines are dates and stay. The rows of leases stay, too, until their agents call: agents keep
them on a clock that nobody sets, so a row that says more is safe, and one that said less would let two runners be.
"""

from __future__ import annotations

from typing import Any

from dsched.scheduler.core.draft import Draft
from dsched.scheduler.core.event import Change
from dsched.scheduler.core.units import Instant, Millis


def expect(draft: Draft, set_by: Millis) -> None:
    """Know until when agents hold their leases by the clock as it is set now, where their rows say a later time."""
    sooner = draft.state.sooner
    for node in draft.state.nodes.values():
        if set_by < 0 or node.id in sooner:
            draft.learn(sooner, node.id, Instant(sooner.get(node.id, node.lease_until) + set_by))


def follow(draft: Draft, by: Millis) -> list[Change]:
    """Move what is remembered back by so much; the changes of rows are to be said by the caller."""
    state, now = draft.state, draft.now.wall
    for known in (state.heard, state.asked, state.delayed, state.foreseeing):
        for key, at in list(known.items()):
            draft.learn(known, key, Instant(at - by))
    market = Millis(round(by * state.scale))
    for later in (state.cooling, state.revisits, state.reviewed, state.shares, state.due):
        for key, at in list(later.items()):
            draft.learn(later, key, Instant(at - market))
    changes = [
        Change("pool", key, {"cool_until": Instant(memory.cool_until - market)})
        for key, memory in state.pools.items()
        if memory.cool_until > draft.now.market
    ]
    changes += [
        Change("node", node.id, {"idle_since": Instant(node.idle_since - by)})
        for node in state.nodes.values()
        if node.idle_since is not None
    ]
    rows: list[tuple[str, dict[str, Any]]] = [("job", state.jobs), ("intent", state.intents), ("alert", state.alerts)]
    for table, waiting in rows:
        due = [(key, row.due) for key, row in waiting.items() if row.due > now]
        changes += [Change(table, key, {"due": Instant(at - by)}) for key, at in due]
    return changes
