"""The wall clock was set back: what waits for a wall instant, or counts from one, would wait so much longer.

Back-offs, repeated calls, idle machines: all of them move with the clock. Leases do not, because the agents that hold
them keep them on a clock that nobody sets; their proofs only come later.
"""

from __future__ import annotations

from typing import Any

from dsched.scheduler.core.draft import Draft
from dsched.scheduler.core.event import Change
from dsched.scheduler.core.units import Instant, Millis


def follow(draft: Draft, by: Millis) -> list[Change]:
    """Move what is remembered back by so much; the changes of rows are to be said by the caller."""
    state, now = draft.state, draft.now.wall
    for known in (state.heard, state.asked, state.delayed, state.foreseeing):
        for key, at in list(known.items()):
            draft.learn(known, key, Instant(at - by))
    changes = [
        Change("node", node.id, {"idle_since": Instant(node.idle_since - by)})
        for node in state.nodes.values()
        if node.idle_since is not None
    ]
    rows: list[tuple[str, dict[str, Any]]] = [("job", state.jobs), ("intent", state.intents), ("alert", state.alerts)]
    for table, waiting in rows:
        due = [(key, row.due) for key, row in waiting.items() if row.due > now]
        changes += [Change(table, key, {"due": Instant(at - by)}) for key, at in due]
    return changes
