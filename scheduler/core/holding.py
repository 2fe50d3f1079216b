"""Holding machines: given to a job, kept idle, given back; and what a pool did to us is remembered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dsched.scheduler.core import hazard, ledger
from dsched.scheduler.core.draft import Draft, insert
from dsched.scheduler.core.effect import CallTerminate, TellLeave
from dsched.scheduler.core.event import Change
from dsched.scheduler.core.snapshot import Job, Node, PoolMemory, State
from dsched.scheduler.core.state import NodeFact, NodeState
from dsched.scheduler.core.units import Instant, Millis


def assign(draft: Draft, node: Node, job: str) -> Node:
    """From now on the node is the job's, and so is its bill."""
    node = ledger.meter(draft, node, draft.now.market)
    given = Change("node", node.id, {"job": job, "idle_since": None, "asked": None})
    draft.say("node.assigned", given, job=job, node=node.id)
    return draft.state.nodes[node.id]


def release(draft: Draft, names: Iterable[str]) -> None:
    """These nodes are nobody's now: kept idle for a next job, or given back when they are to be taken anyway."""
    for name in names:
        node = draft.state.nodes.get(name)
        if node is None or node.running:
            continue
        node = ledger.meter(draft, node, draft.now.market)
        node = draft.node(node, "idle", job="", idle_since=draft.now.wall)
        draft.tell(node.pool.id)
        draft.state.wake()
        if node.notice is not None or node.state is NodeState.DRAINING:
            leave(draft, node, "it is to be taken back and has no job")
        elif _nobody_pays(draft):
            leave(draft, node, "it has no job, and the budget that pays for idle nodes is spent")


def _nobody_pays(draft: Draft) -> bool:
    budget = draft.state.budgets.get(ledger.DEFAULT)
    return budget is not None and budget.exhausted


def leave(draft: Draft, node: Node, why: str) -> None:
    """We want it gone: ask until the provider proves it."""
    if not node.leaving:
        node = draft.node(node, "leaving", NodeFact.DRAIN, why=why, leaving=True)
    ask_end(draft, node)


def ask_end(draft: Draft, node: Node) -> None:
    last = draft.state.asked.get(node.id)
    if last is not None and draft.now.wall - last < draft.terms.terminate_again:
        return
    if not node.ref:
        return  # the launch is not answered yet; when it is, we are here again
    draft.learn(draft.state.asked, node.id, draft.now.wall)
    draft.do(TellLeave(node=node.id, grace=Millis(0)), CallTerminate(provider=node.pool.provider, refs=(node.ref,)))


def avoiding(draft: Draft, job: Job, pool: str) -> tuple[str, ...]:
    """The job's pools not to be tried first, with this one as the newest."""
    kept = tuple(p for p in job.avoid if p != pool)
    return (*kept, pool)[-draft.terms.avoid_kept :]


def remember(
    draft: Draft, memory: PoolMemory, interrupted: str, *, exposure: Millis = Millis(0), expected: float = 0.0
) -> None:
    """Add to what we know of a pool: time lived there (and what the usual rate would have taken in it), and (with a
    sentence) an interruption, which cools it down."""
    now = draft.now.market
    struck = bool(interrupted) and now - memory.struck > hazard.ONE_BLOW
    changed = hazard.remembered(memory, float(struck), expected, draft.policy, now)
    if struck:
        changed = replace(changed, struck=now)
    if exposure:
        changed = replace(changed, watched=max(memory.watched, now))
    changed = replace(changed, exposure=Millis(memory.exposure + exposure))
    if interrupted:
        until = max(memory.cool_until, Instant(draft.now.market + draft.policy.cooldown))
        changed = replace(changed, interruptions=memory.interruptions + 1, cool_until=until, why=interrupted)
        draft.learn(draft.state.cooling, memory.pool, until)
        draft.state.dirty = True
    draft.say("pool.remembered", remembered(draft.state, changed), why=interrupted)


def remembered(state: State, memory: PoolMemory) -> Change:
    """The change that makes this the pool's row."""
    row = insert("pool", memory.pool, memory)
    return replace(row, new=False) if memory.pool in state.pools else row


def met(draft: Draft, pool: str, *, up: bool) -> None:
    """A pool was seen to sell, or not to: how long it has done so says how long it will."""
    state = draft.state
    draft.learn(state.streaks, pool, hazard.told(state.streaks, pool, up=up, now=draft.now.market))
