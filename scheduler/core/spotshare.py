"""The share of a job's machine hours that may be spot: its own word or its user's limit, whichever is stricter.

While it runs it moves off spot once that is used up. A user's limit holds for each of his jobs, and so for all of them
together: no job may use up what another one has earned.
"""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Final

from dsched.scheduler.core import feasible, ledger, lifecycle, rank
from dsched.scheduler.core.asking import ask
from dsched.scheduler.core.draft import Draft
from dsched.scheduler.core.job import Spec
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.report import Refusal
from dsched.scheduler.core.snapshot import After, Job, Node
from dsched.scheduler.core.state import TERMINAL, JobState
from dsched.scheduler.core.units import MINUTE, Instant, Millis
from dsched.scheduler.core.work import demand_of

LOOK: Final = Millis(5 * MINUTE)  # market, between two looks at one job; by so much the share may be passed
PATIENCE: Final = Millis(10 * MINUTE)  # market, for other capacity to be found; then the job waits for it in the queue


def limited(spec: Spec, policy: Policy) -> Spec:
    """The spec as its user's limit allows it; the first glob that matches the user holds."""
    most = next((share for pattern, share in policy.spot_shares if fnmatchcase(spec.user, pattern)), 1.0)
    if spec.need.spot_share <= most:
        return spec
    return replace(spec, need=replace(spec.need, spot_share=most))


def limit(draft: Draft) -> None:
    """A limit that was lowered while nobody ran holds for the jobs that are there already."""
    for job in list(draft.state.jobs.values()):
        spec = limited(job.spec, draft.policy)
        if spec is not job.spec and job.state not in TERMINAL:
            draft.job(job, "limited", spec=spec, why=f"at most {spec.need.spot_share:.0%} of {spec.user}'s may be spot")


def watch(draft: Draft, job: Job) -> None:
    """Look for other capacity when the share is used up; leave when none was found in time."""
    state, now = draft.state, draft.now.market
    nodes = [node for name in job.nodes if (node := state.nodes.get(name)) is not None]
    if job.state is not JobState.RUNNING or not any(node.pool.market is Market.SPOT for node in nodes):
        return
    if now < state.shares.get(job.id, Instant(0)):
        return
    refusal = used_up(draft, job, nodes)
    draft.learn(state.shares, job.id, Instant(now + (LOOK if refusal is None else PATIENCE)))
    if refusal is None:
        return
    for node in nodes:
        ledger.meter(draft, node, now)  # the planner judges by what is booked
    if job.reason != refusal.words:  # first other capacity is looked for
        draft.job(job, "moves", why=refusal.words, after=After.MOVE)
        state.dirty = True
    else:
        lifecycle.drain(draft, job, After.MOVE, refusal.words)


def used_up(draft: Draft, job: Job, nodes: list[Node]) -> Refusal | None:
    """Why the job may not go on where it is; what runs unbooked counts."""
    state, now, need = draft.state, draft.now, job.spec.need
    offer = state.offers.get(nodes[0].pool.id)
    if offer is None or offer.quote is None:
        return None
    since = sum(now.market - node.metered for node in nodes if node.metered is not None)
    booked = replace(job, machine=Millis(job.machine + since), spot=Millis(job.spot + since))
    question = ask(state, [booked], draft.policy, now)
    demand = demand_of(booked, rank.reference(need, question), question, draft.policy, now)
    value = rank.value(offer, offer.quote.price, len(nodes), node_hazard=0.0, boots=False, demand=demand)
    return feasible.over_spot_share(need, offer.pool, value, demand.luggage.spot_left)
