"""Write a placement down: the decision with its reasons, the nodes, and the intent before the cloud hears of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dsched.scheduler.core import lifecycle, report
from dsched.scheduler.core.discount import listed
from dsched.scheduler.core.draft import Draft, insert
from dsched.scheduler.core.effect import CallLaunch
from dsched.scheduler.core.elastic.keep import kept
from dsched.scheduler.core.event import Change
from dsched.scheduler.core.holding import assign
from dsched.scheduler.core.placement import Placement
from dsched.scheduler.core.snapshot import After, Decision, Intent, Job, Node, queue_class
from dsched.scheduler.core.state import INTENT, IntentFact, IntentState, JobFact, JobState, NodeState, step
from dsched.scheduler.core.units import Instant


def take(draft: Draft, job: Job, chosen: Placement, why: report.Report, more: Mapping[str, Any] | None = None) -> None:
    """One placement: the decision (with `more` about it), the nodes, and the intent."""
    chosen = kept(draft.state, job, chosen)
    decision = record(draft, job, why, more)
    changes = [insert("decision", decision.id, decision)]
    bought: tuple[str, ...] = ()
    if chosen.buy:
        intent, rows = _intend(draft, job, chosen)
        bought = intent.nodes
        changes += rows
        draft.do(CallLaunch(intent=intent.id))
    fact = JobFact.PLACE if job.state is JobState.QUEUED else None
    following = (*chosen.reuse, *bought)
    where = f"placed on {chosen.nodes} x {chosen.pool.id}{_together(more or {})}"
    job = draft.job(job, "placed", fact, *changes, why=where, next_nodes=following, decision=decision.id)
    for name in chosen.reuse:
        assign(draft, draft.state.nodes[name], job.id)
    draft.state.unblock(queue_class(job))
    lifecycle.try_start(draft, job)
    move_when_ready(draft, draft.state.jobs[job.id])


def _together(more: Mapping[str, Any]) -> str:
    """For the event, where a solver's plan was better than the greedy one."""
    found = more.get("together")
    return f"; {found['jobs']} jobs together, which saves {found['saves']:.0%}" if found else ""


def move_when_ready(draft: Draft, job: Job) -> None:
    """A migration drains only once its new gang is up: the job works on meanwhile."""
    if job.state is not JobState.RUNNING or job.after is not After.MOVE or not job.next_nodes:
        return
    nodes = [draft.state.nodes.get(n) for n in job.next_nodes]
    if all(n is not None and n.state is NodeState.READY for n in nodes):
        lifecycle.drain(draft, job, After.MOVE, job.reason)


def record(draft: Draft, job: Job, why: report.Report, more: Mapping[str, Any] | None = None) -> Decision:
    """To be stored. Offers that never fit are only counted: the spec tells them, and they take ten times the space."""
    last = int(job.decision.rpartition(".")[2] or 0)
    name = f"{job.id}.{last + 1}"
    wire = report.to_wire(why, id=name, job=job.id, name=job.spec.name, lasting=False)
    return Decision(id=name, job=job.id, at=draft.now, report={**wire, **(more or {})})


def _intend(draft: Draft, job: Job, chosen: Placement) -> tuple[Intent, list[Change]]:
    state, now = draft.state, draft.now
    draft.set("launches_made", state.launches_made + 1)
    token = f"ds-{state.cluster[:8]}-{state.era}-{state.launches_made}"
    lease = Instant(now.wall + draft.policy.lease)
    offer = state.offers[chosen.pool.id]
    assert offer.quote is not None
    intent = Intent(
        id=token,
        state=step(INTENT, IntentState.PENDING, IntentFact.SEND),
        provider=chosen.pool.provider,
        job=job.id,
        pool=chosen.pool,
        count=chosen.buy,
        nodes=tuple(f"{token}.{i}" for i in range(chosen.buy)),
        lease_until=lease,
        price_max=listed(chosen.price_max, draft.policy.discounts, chosen.pool),
        made=now,
        tries=1,
    )
    changes = [insert("intent", token, intent)]
    for index in range(chosen.buy):
        node = Node(
            id=f"{token}.{index}",
            token=token,
            index=index,
            pool=chosen.pool,
            gpus=offer.shape.gpus,
            state=NodeState.REQUESTED,
            lease_until=lease,
            rate=offer.quote.price,
            ceiling=chosen.price_max,
            rate_source=offer.quote.source,
            rate_at=offer.quote.at,
            on_demand=offer.on_demand,
            job=job.id,
            asked=now.wall,
        )
        changes.append(insert("node", node.id, node))
    return intent, changes
