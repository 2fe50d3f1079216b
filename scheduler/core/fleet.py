"""The machines as their providers tell of them: found, arrived, noticed, gone.

Level-triggered: every list of a provider is compared with what we believe. A machine of ours that no
row claims is an orphan and is ended, for ever, every time it is seen. A machine that is missing from a
list is only gone when the provider says so or when its lease has run out.
"""

from __future__ import annotations

from dsched.scheduler.core import hazard, ledger, lifecycle, orphan, setback
from dsched.scheduler.core.draft import Draft
from dsched.scheduler.core.effect import CallTerminate
from dsched.scheduler.core.event import Change
from dsched.scheduler.core.holding import ask_end, avoiding, leave, met, remember
from dsched.scheduler.core.message import ClockJumped, NodeNoticed, NodesSeen, SeenNode
from dsched.scheduler.core.snapshot import Intent, Job, Node, PoolMemory
from dsched.scheduler.core.state import INTENT, IntentFact, IntentState, JobFact, JobState, NodeFact, NodeState, step
from dsched.scheduler.core.units import Instant, Millis


def seen(draft: Draft, message: NodesSeen) -> None:
    """Compare a provider's complete list with our rows."""
    state = draft.state
    names: set[str] = set()
    for machine in message.nodes:
        name = f"{machine.token}.{machine.index}"
        names.add(name)
        if name in state.absent:
            draft.learn(state.absent, name, None)
        node = state.nodes.get(name)
        if node is None:
            if machine.alive:
                orphan.found(draft, message.provider, machine)
            continue
        node = arrived(draft, node, machine)
        if not machine.alive:
            gone(draft, node, machine.ended or draft.now.market, machine.ended_by)
    orphan.look(draft, message.provider, {machine.ref: machine for machine in message.nodes})
    for node in list(state.nodes.values()):
        if node.pool.provider == message.provider and node.id not in names:
            _missing(draft, node, message.asked)


def arrived(draft: Draft, node: Node, machine: SeenNode) -> Node:
    """The provider has it, or had it: billing runs from its launch, at the price of that time."""
    if node.launched is not None and node.ref:
        return node
    node = draft.node(
        node,
        "launched",
        NodeFact.LAUNCHED,
        data={"pool": node.pool.id},
        ref=machine.ref,
        launched=machine.launched,
        metered=machine.launched,
    )
    intent = draft.state.intents.get(node.token)
    memory = draft.state.pools.get(node.pool.id)
    met(draft, node.pool.id, up=True)
    if memory is not None and memory.refusals:
        draft.say("pool.sells", Change("pool", memory.pool, {"refusals": 0}))
        draft.tell(memory.pool)
        draft.state.wake()
    if intent is not None:
        settle_intent(
            draft, intent, IntentFact.CONFIRM, "found", f"{node.id} was found by its tag: the launch had happened"
        )
    offer = draft.state.offers.get(node.pool.id)
    if offer is not None and offer.quote is not None and offer.quote.price != node.rate:
        node = ledger.reprice(draft, node, offer.quote, offer.on_demand)  # it moved since the launch was planned
    return node


def _missing(draft: Draft, node: Node, asked: Instant) -> None:
    """Absence is evidence, never proof: three lists in a row without it, and it is asked to end and waited out."""
    if node.ref == "" or node.leaving:
        return
    count = draft.state.absent.get(node.id, 0) + 1
    draft.learn(draft.state.absent, node.id, count)
    heard = draft.state.heard.get(node.id, Instant(0))
    if count >= draft.terms.absent_lists and asked - heard > draft.terms.silent:
        leave(draft, node, "three lists in a row do not name it, and it is silent")


def gone(draft: Draft, node: Node, ended: Instant, by: str) -> None:
    """A proof that nothing of the node lives: the provider said so, or its lease has ended."""
    state = draft.state
    node = ledger.close(draft, node, ended)
    memory = state.pools.get(node.pool.id) or PoolMemory(pool=node.pool.id)
    lived = Millis(max(0, ended - (node.launched or ended)))
    taken = by == "interrupted" and node.notice is None  # a notice was counted when it came
    remember(
        draft,
        memory,
        f"interrupted {node.id}" if taken else "",
        exposure=lived,
        expected=_expected(draft, node, memory, ended),
    )
    if taken:
        met(draft, node.pool.id, up=False)
    job = state.jobs.get(node.job)
    why = f"{node.id} is gone: {by}"
    told = {"by": by, "pool": node.pool.id, "taken": taken}
    draft.node(node, "gone", NodeFact.GONE, why=why, data=told, ended=ended, ended_by=by, running=False)
    state.wake()
    if job is not None:
        _lost(draft, job, node, by, taken=taken)


def _expected(draft: Draft, node: Node, memory: PoolMemory, ended: Instant) -> float:
    """Interruptions that its life would have brought, as far as no other machine's life there was counted already."""
    pool = node.pool.id
    begun = max(node.launched if node.launched is not None else ended, memory.watched)
    return hazard.expected(draft.state.offers.get(pool), draft.state.streaks.get(pool), Instant(begun), ended)


def _lost(draft: Draft, job: Job, node: Node, by: str, *, taken: bool) -> None:
    if node.id in job.next_nodes:
        lifecycle.unplace(draft, job, f"{node.id} is gone ({by}) before it could start", node.pool.id)
        job = draft.state.jobs[job.id]
    if node.id not in job.nodes:
        return
    if node.running:
        attempt = draft.state.attempt(job)
        if attempt is not None:
            draft.attempt(attempt, "lost", why=f"{node.id} is gone: {by}", lost=True)
        job = draft.job(
            job, "interrupted", interruptions=job.interruptions + taken, avoid=avoiding(draft, job, node.pool.id)
        )
        lifecycle.stop(draft, job, f"{node.id} is gone")
    if lifecycle.quiet(draft, job) and job.state in (JobState.STARTING, JobState.RUNNING, JobState.DRAINING):
        if job.next_nodes and job.state is JobState.STARTING:
            lifecycle.try_start(draft, job)
        elif node.running or job.state is JobState.DRAINING:
            lifecycle.settle(draft, job)


def noticed(draft: Draft, message: NodeNoticed) -> None:
    """The cloud will take this node: its lease ends then, its gang saves and leaves, a successor is looked for now."""
    state = draft.state
    node = state.nodes.get(message.node)
    if node is None:
        return
    first = node.notice is None
    # Only the node's own word cuts its lease: the end of a lease is a proof, and one that has not heard lives on.
    lease = min(node.lease_until, message.deadline) if message.by_node else node.lease_until
    deadline = message.deadline if node.notice is None else min(node.notice, message.deadline)
    if deadline == node.notice and lease == node.lease_until:
        return
    why = f"the cloud takes {node.id} back ({message.source})"
    told = {"pool": node.pool.id, "first": first}
    node = draft.node(node, "noticed", NodeFact.NOTICE, why=why, data=told, notice=deadline, lease_until=Instant(lease))
    if first:
        memory = state.pools.get(node.pool.id) or PoolMemory(pool=node.pool.id)
        remember(draft, memory, f"noticed {node.id}")
        met(draft, node.pool.id, up=False)
    job = state.jobs.get(node.job)
    if job is None:
        leave(draft, node, why)
        return
    if node.id in job.next_nodes:
        lifecycle.unplace(draft, job, why, node.pool.id)
        job = state.jobs[job.id]
    if node.id in job.nodes and node.running:
        _drain_noticed(draft, job, node, why, message.deadline, first=first)


def _drain_noticed(draft: Draft, job: Job, node: Node, why: str, deadline: Instant, *, first: bool) -> None:
    if job.state in (JobState.STARTING, JobState.RUNNING):
        job = draft.job(job, "noticed", JobFact.NOTICE, why=why)
    job = draft.job(
        job, "interrupted", interruptions=job.interruptions + first, avoid=avoiding(draft, job, node.pool.id)
    )
    grace = Millis(max(0, deadline - draft.now.wall - draft.terms.notice_margin))
    lifecycle.stop(draft, job, why, grace)
    draft.state.dirty = True


def watch(draft: Draft) -> None:
    """What time does to machines: leases end, idle ones go back, those that never came up too."""
    terms, now = draft.terms, draft.now
    for name in _in_question(draft):
        node = draft.state.nodes.get(name)  # the end of one may have changed the next
        if node is None:
            continue
        if now.wall > node.lease_until + terms.proof_margin and now.wall > draft.state.proofs_from:
            ended = Instant(now.market - int((now.wall - node.lease_until) * draft.state.scale))
            _lease_ended(draft, node, ended)
        elif node.leaving:
            ask_end(draft, node)
        elif node.idle_since is not None and not node.job and now.wall - node.idle_since >= terms.idle_keep:
            leave(draft, node, f"idle for {terms.idle_keep // 1000} s")
        elif node.state is NodeState.BOOTING and _booted_too_long(draft, node):
            leave(draft, node, f"not heard within {terms.boot_max // 1000} s of its launch")


def _in_question(draft: Draft) -> list[str]:
    """Without the many that just work within their leases."""
    proved = draft.now.wall - draft.terms.proof_margin
    return [
        name
        for name, node in draft.state.nodes.items()
        if node.lease_until < proved or node.leaving or node.idle_since is not None or node.state is NodeState.BOOTING
    ]


def clock_jumped(draft: Draft, message: ClockJumped) -> None:
    """Wall time alone proves no lease over for a while: agents did not live the time that the clock skipped.

    Set forward: until every lease granted before has ended on the clock of the agent that holds it. Slept: until every
    agent has had its chance to call, or to end what it could not end in its sleep. Set back: proofs only come later,
    and what waits moves with the clock.
    """
    moved = setback.follow(draft, Millis(-message.set_by)) if message.set_by < 0 else []
    setback.expect(draft, message.set_by)
    wait = _longest(draft, message) if message.set_by > 0 else draft.terms.silent if message.slept > 0 else Millis(0)
    until = Instant(draft.now.wall + wait + draft.terms.proof_margin)
    held = max(draft.state.proofs_from, message.held)
    known = Instant(held + message.set_by if held else 0)
    draft.set("proofs_from", max(until, known) if wait else known)
    set_by, slept = message.set_by / 1_000, message.slept / 1_000
    so = f": for {(until - draft.now.wall) / 1_000:.0f} s no lease counts as over by its time" if wait else ""
    why = f"the wall clock was set by {set_by:+.1f} s, and this host slept {slept:.1f} s{so}"
    draft.say("clock.jumped", *moved, why=why)


def _longest(draft: Draft, message: ClockJumped) -> Millis:
    """For how long agents may hold leases of before the jump: more than one grant where the clock was set back once."""
    before = draft.now.wall - message.set_by
    return Millis(max([draft.policy.lease, *(node.lease_until - before for node in draft.state.nodes.values())]))


def _booted_too_long(draft: Draft, node: Node) -> bool:
    age = (draft.now.market - (node.launched or draft.now.market)) / draft.state.scale
    return age > draft.terms.boot_max


def _lease_ended(draft: Draft, node: Node, ended: Instant) -> None:
    """The second proof. A machine that the provider still shows afterwards is an orphan, and ended as one."""
    intent = draft.state.intents.get(node.token)
    if intent is not None:
        settle_intent(draft, intent, IntentFact.REFUSE, "abandoned", "its lease ended unanswered")
    if node.ref:
        draft.do(CallTerminate(provider=node.pool.provider, refs=(node.ref,)))
    gone(draft, node, ended, "lease")
    orphan.outlived(draft, node, ended)


def settle_intent(draft: Draft, intent: Intent, fact: IntentFact, kind: str, why: str, by: str = "") -> None:
    """The fate of a launch is known; `by`: what refused it."""
    sent = step(INTENT, intent.state, IntentFact.SEND) if intent.state is IntentState.PENDING else intent.state
    error = "" if fact is IntentFact.CONFIRM else why
    changed = {"state": step(INTENT, sent, fact), "error": error}
    told = {"pool": intent.pool.id, "count": intent.count, "by": by} if by else None
    draft.say(f"intent.{kind}", Change("intent", intent.id, changed), job=intent.job, why=why, data=told)
