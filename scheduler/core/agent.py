"""The machines as their agents tell of them: heard, ranks started and reaped, checkpoints committed, leases renewed."""

from __future__ import annotations

from dsched.scheduler.core import learning, lifecycle
from dsched.scheduler.core.budget import affordable
from dsched.scheduler.core.draft import Draft, insert
from dsched.scheduler.core.effect import CallRenew, SendAlert, TellLeave, TellStop
from dsched.scheduler.core.holding import avoiding, leave, release
from dsched.scheduler.core.message import (
    AgentHello,
    CheckpointSaved,
    FactLost,
    FirstStep,
    Group,
    RanksExited,
    RanksStarted,
    Refusal,
    RenewLease,
    SetupBroke,
)
from dsched.scheduler.core.snapshot import Alert, Job, Node
from dsched.scheduler.core.state import JobState, NodeFact, NodeState
from dsched.scheduler.core.units import Instant, Millis


def _node(draft: Draft, name: str) -> Node:
    node = draft.state.nodes.get(name)
    if node is None:
        raise Refusal("E410", f"{name} is not ours any more")
    draft.learn(draft.state.heard, name, draft.now.wall)
    return node


def hello(draft: Draft, message: AgentHello) -> Millis:
    """An agent dialled in: compare what runs there with what should. Answer: what is left of its lease."""
    node = _node(draft, message.node)
    anew = node.boot not in ("", message.boot)
    if node.state in (NodeState.REQUESTED, NodeState.BOOTING):
        idle = None if node.job else draft.now.wall
        node = draft.node(node, "ready", NodeFact.HEARD, idle_since=idle, boot=message.boot)
    elif node.boot != message.boot:
        node = draft.node(node, "heard", why="its agent started anew" if anew else "", boot=message.boot)
    job = draft.state.jobs.get(node.job)
    ours = None
    for group in message.running:
        if job is not None and group.job == node.job and group.generation == node.generation:
            ours = group
        elif group.state != "exited":
            draft.do(
                TellStop(
                    node=node.id,
                    job=group.job,
                    generation=group.generation,
                    grace=Millis(0),
                    why="not its job any more",
                )
            )
    if job is not None and node.running:
        _compare(draft, job, node, ours, anew=anew)
    job = draft.state.jobs.get(node.job)
    if job is not None and node.id in job.next_nodes:
        lifecycle.try_start(draft, job)
    if node.leaving:
        draft.do(TellLeave(node=node.id, grace=Millis(0)))
    return _left(draft, node)


def _compare(draft: Draft, job: Job, node: Node, ours: Group | None, *, anew: bool) -> None:
    """What runs of the node's generation, against what should."""
    if ours is not None and ours.state != "exited":
        if ours.state == "running":
            lifecycle.started(draft, node)
            lifecycle.retime(draft, job, node)
        if job.state is JobState.DRAINING or _broken(draft, job):
            lifecycle.stop(draft, job, job.reason)  # again: the order may be lost with the daemon that gave it
    elif ours is not None:
        drained = not any(ours.exits.values())
        ended = RanksExited(node=node.id, job=job.id, generation=node.generation, exits=ours.exits, drained=drained)
        exited(draft, ended)
    elif not anew and draft.state.started.get(node.id) != node.generation and _unstarted(draft, job):
        lifecycle.tell_start(draft, job, [node])  # the order was lost with the daemon that gave it
    else:
        attempt = draft.state.attempt(job)
        if attempt is not None and not _broken(draft, job):
            draft.attempt(attempt, "lost", why=f"the agent of {node.id} started anew", lost=True)
        exited(draft, RanksExited(node=node.id, job=job.id, generation=node.generation, exits={}, drained=True))


def _broken(draft: Draft, job: Job) -> bool:
    """Whether a rank of the generation failed, vanished or never ran, so that the others wait for it in vain."""
    attempt = draft.state.attempt(job)
    if attempt is None:
        return False
    per = job.spec.ranks_per_node
    for place, name in enumerate(job.nodes):
        node = draft.state.nodes.get(name)
        ended = node is None or not node.running
        if ended and any(attempt.exits.get(str(rank)) != 0 for rank in range(place * per, place * per + per)):
            return True
    return attempt.lost or any(attempt.exits.values())


def _unstarted(draft: Draft, job: Job) -> bool:
    """Whether the generation is still to start: its gang is whole, and no rank of it has ended."""
    whole = all(name in draft.state.nodes for name in job.nodes)
    return whole and job.state is JobState.STARTING and not _broken(draft, job)


def renew(draft: Draft, message: RenewLease) -> Millis:
    """Extend the lease, as far as notice, leave and budget allow. Answer: what is left of it."""
    node = _node(draft, message.node)
    until = Instant(draft.now.wall + draft.policy.lease)
    if node.notice is None and not node.leaving:
        node = _brought_back(draft, node, until)
        until = affordable(draft.state, node, until, draft.now)
        if until > node.lease_until:
            node = draft.node(node, "lease", lease_until=until)
            draft.do(CallRenew(provider=node.pool.provider, ref=node.ref, until=until))
    return _left(draft, node)


def _brought_back(draft: Draft, node: Node, until: Instant) -> Node:
    """The row says no more than its agent holds, again: the clock was set back since the lease was granted."""
    sooner = draft.state.sooner.get(node.id)
    if sooner is None:
        return node
    draft.learn(draft.state.sooner, node.id, None)
    ends = max(until, sooner)
    if ends >= node.lease_until:
        return node
    return draft.node(node, "corrected", why="the clock was set back since its lease was granted", lease_until=ends)


def _left(draft: Draft, node: Node) -> Millis:
    """At most one grant: where the clock was set back the row may say more, and nobody is to live so long unheard."""
    return Millis(max(0, min(node.lease_until - draft.now.wall, draft.policy.lease)))


def ranks_started(draft: Draft, message: RanksStarted) -> None:
    node = _node(draft, message.node)
    if node.job == message.job and node.generation == message.generation and node.running:
        lifecycle.started(draft, node)


def exited(draft: Draft, message: RanksExited) -> None:
    """One of the proofs: every process of the generation on this node is reaped."""
    node = _node(draft, message.node)
    if node.generation != message.generation or node.job != message.job or not node.running:
        return
    node = draft.node(node, "quiet", why=_exits(message), running=False)
    job = draft.state.jobs.get(message.job)
    if job is None or job.generation != message.generation:
        release(draft, (node.id,))
        return
    attempt = draft.state.attempt(job)
    if attempt is not None:
        cause = attempt.cause
        if cause is None and not message.drained:
            cause = next((code for code in message.exits.values() if code), None)
        tail = message.tail if cause != attempt.cause else attempt.tail
        exits = {**attempt.exits, **message.exits}
        draft.attempt(attempt, "exits", exits=exits, cause=cause, tail=tail[-2000:])
    if not lifecycle.quiet(draft, job):
        if any(message.exits.values()) or message.drained:
            lifecycle.stop(draft, job, "a rank of the gang ended")
        return
    lifecycle.settle(draft, job)


def _exits(message: RanksExited) -> str:
    codes = ", ".join(f"rank {rank}: {code}" for rank, code in message.exits.items()) or "nothing ran"
    return codes + (" (hung)" if message.hung else "") + (" (drained)" if message.drained else "")


def setup_broke(draft: Draft, message: SetupBroke) -> None:
    """A set-up command failed: that counts like a rank's own failure.

    A machine on which nothing can start goes back first, so that the next try is on another one. It counts all the
    same: what fails on one machine after the other would buy them for ever.
    """
    node = _node(draft, message.node)
    if message.machine and node.running and (node.job, node.generation) == (message.job, message.generation):
        job = draft.state.jobs.get(node.job)
        if job is not None:
            draft.job(job, "misplaced", avoid=avoiding(draft, job, node.pool.id))
        leave(draft, node, f"nothing can start on it: {message.tail[-200:]}")
    exits = {"setup": message.code}
    exited(
        draft,
        RanksExited(
            node=message.node,
            job=message.job,
            generation=message.generation,
            exits=exits,
            tail=f"setup `{message.command}` ended with {message.code}\n{message.tail}",
        ),
    )


def saved(draft: Draft, message: CheckpointSaved) -> None:
    node = _node(draft, message.node)
    job = draft.state.jobs.get(message.job)
    if job is None or job.generation != message.generation or node.generation != message.generation:
        return
    if message.fallback:
        draft.say("checkpoint.fallback", job=job.id, node=node.id, why=message.fallback, data={"step": message.step})
        draft.job(job, "stepped-back", checkpoint_step=message.step)
    elif message.step > job.checkpoint_step:
        data = {"step": message.step, "generation": message.generation, "uri": message.uri, "write_ms": message.write}
        changed = learning.saved(job, node, message)
        draft.job(job, "checkpointed", data=data, checkpoint_step=message.step, **changed)


def fact_lost(draft: Draft, message: FactLost) -> None:
    """Told to people once per node and kind of fact, until the alert has been delivered."""
    about = f"{message.node}-{message.what}"
    if any(alert.id.startswith(f"lost-{about}-") for alert in draft.state.alerts.values()):
        return
    alert = Alert(
        id=f"lost-{about}-{draft.now.wall}",
        made=draft.now,
        severity="critical",
        title=f"{message.node}: the daemon broke at a fact of kind {message.what}, and it is lost",
        text=f"{message.error[:500]} (job {message.job or 'none'}). A bug: please report it with the daemon's journal.",
    )
    draft.say("alert.raised", insert("alert", alert.id, alert), job=message.job, node=message.node, why=alert.title)
    draft.do(SendAlert(id=alert.id))


def first_step(draft: Draft, message: FirstStep) -> None:
    job = draft.state.jobs.get(message.job)
    attempt = draft.state.attempt(job) if job else None
    if job is None or attempt is None:
        return
    if attempt.generation == message.generation and attempt.first_step is None:
        draft.attempt(attempt, "stepping", first_step=message.step)
        learning.first_step(draft, job, attempt)
