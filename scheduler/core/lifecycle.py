"""A job's way: started on whole gangs only, drained, settled by how its ranks ended.

The two-proofs rule lives in `try_start`: a new generation's ranks start only once every node of the old one is proved
quiet (its agent reported them reaped, the provider says terminated, or the lease has ended).
"""

from __future__ import annotations

from typing import Any, Final

from dsched.scheduler.core import turns
from dsched.scheduler.core.draft import Draft, insert
from dsched.scheduler.core.effect import TellCheckpoint, TellStart, TellStop, WakeAt
from dsched.scheduler.core.elastic.keep import survivors
from dsched.scheduler.core.event import Change
from dsched.scheduler.core.goodput import checkpoint_interval
from dsched.scheduler.core.hazard import per_node
from dsched.scheduler.core.holding import avoiding, release
from dsched.scheduler.core.snapshot import After, Attempt, Job, Node
from dsched.scheduler.core.state import JobFact, JobState, NodeState
from dsched.scheduler.core.units import HOUR, Instant, Millis

EXIT_DONE: Final = 0
EXIT_SAVED: Final = 75
EXIT_PEER_LOST: Final = 76
EXIT_CORRUPT: Final = 77
EXIT_NEVER_RETRY: Final = 78
AGAIN: Final = frozenset({EXIT_SAVED, EXIT_PEER_LOST, EXIT_CORRUPT})  # words of the contract, whatever `retry_on` says
INTERVAL_MOVED: Final = (
    0.2  # of a checkpoint interval: near its optimum the cost is flat, and a smaller step saves nothing
)
ERA: Final = 1_000_000  # generations of one era; see State.era


# -- starting -------------------------------------------------------------------------------------------------------


def quiet(draft: Draft, job: Job) -> bool:
    """Whether no rank of the job can be alive: every node of its last generation is proved to be."""
    nodes = (draft.state.nodes.get(n) for n in job.nodes)
    return not any(node is not None and node.running and node.job == job.id for node in nodes)


def try_start(draft: Draft, job: Job) -> None:
    """Give out the next generation once its whole gang is up and the old one is proved quiet."""
    if job.state is not JobState.STARTING or not job.next_nodes:
        return
    if draft.now.wall < job.due:
        draft.learn(draft.state.delayed, job.id, job.due)
        draft.do(WakeAt(at=job.due))
        return
    nodes = [draft.state.nodes.get(n) for n in job.next_nodes]
    gang = [node for node in nodes if node is not None and node.state is NodeState.READY]
    if len(gang) < len(nodes) or not quiet(draft, job):
        return
    _start(draft, job, gang)


def _start(draft: Draft, job: Job, gang: list[Node]) -> None:
    generation = max(job.generation, (draft.state.era - 1) * ERA) + 1
    world = job.spec.ranks_per_node * len(gang)
    attempt = Attempt(
        job=job.id,
        generation=generation,
        pool=gang[0].pool.id,
        nodes=job.next_nodes,
        world_size=world,
        decided=draft.now,
        asked=min((node.asked for node in gang if node.asked is not None), default=None),
    )
    resume = job.generation > 0
    taken = {"generation": generation, "running": True, "idle_since": None, "asked": None}
    given = [Change("node", n.id, taken) for n in gang]
    draft.job(
        job,
        "generation",
        None,
        insert("attempt", f"{job.id}/{generation}", attempt),
        *given,
        why=f"starting generation {generation} on {gang[0].pool.id}",
        generation=generation,
        nodes=job.next_nodes,
        next_nodes=(),
        places=(),
        last_nodes=job.next_nodes,
        moves=job.moves + (resume and set(job.last_nodes) != set(job.next_nodes)),
    )
    tell_start(draft, draft.state.jobs[job.id], gang)


def tell_start(draft: Draft, job: Job, nodes: list[Node]) -> None:
    """Order the ranks of the job's current generation on these nodes; harmless when repeated."""
    interval = _interval(draft, job)
    draft.learn(draft.state.intervals, job.id, interval)
    per = job.spec.ranks_per_node
    for node in nodes:
        first = job.nodes.index(node.id) * per
        draft.do(
            TellStart(
                node=node.id,
                job=job.id,
                generation=job.generation,
                ranks=tuple(range(first, first + per)),
                world_size=per * len(job.nodes),
                master=job.nodes[0],
                resume=job.checkpoint_step > 0 or job.generation % ERA > 1,
                interval=interval,
            )
        )


def retime(draft: Draft, job: Job, *nodes: Node) -> None:
    """Tell a running job its checkpoint interval where the hazard has moved it; these nodes in any case."""
    if job.state is not JobState.RUNNING or job.nodes[0] not in draft.state.nodes:
        return
    interval = _interval(draft, job)
    told = draft.state.intervals.get(job.id)
    if told is None or abs(interval - told) > told * INTERVAL_MOVED:
        draft.learn(draft.state.intervals, job.id, interval)
        nodes = tuple(node for name in job.nodes if (node := draft.state.nodes.get(name)) is not None)
    elif nodes:
        interval = told
    for node in nodes:
        draft.do(TellCheckpoint(node=node.id, job=job.id, generation=job.generation, interval=interval))


def _interval(draft: Draft, job: Job) -> Millis:
    """The job's own word, else Young-Daly from the gang's hazard and the policy's write time. Wall time."""
    if job.spec.checkpoint.every is not None:
        return job.spec.checkpoint.every
    state, policy = draft.state, draft.policy
    pool = state.nodes[job.nodes[0]].pool.id
    offer = state.offers.get(pool)
    if offer is None:
        return policy.checkpoint_max
    hazard = per_node(offer, state.pools.get(pool), policy, draft.now.market) * len(job.nodes)
    mtbf = Millis(round(HOUR / hazard / state.scale)) if hazard > 0 else Millis(0)
    write = policy.write if job.write is None else max(Millis(1), job.write)
    return min(checkpoint_interval(write, mtbf), policy.checkpoint_max) if mtbf else policy.checkpoint_max


def started(draft: Draft, node: Node) -> None:
    """A node's ranks run; when all nodes' do, the job runs."""
    state = draft.state
    draft.learn(state.started, node.id, node.generation)
    job = state.jobs.get(node.job)
    if job is None or job.generation != node.generation or job.state is not JobState.STARTING:
        return
    if any(state.started.get(n) != job.generation for n in job.nodes):
        return
    attempt = state.attempt(job)
    if attempt:
        draft.attempt(attempt, "running", running=draft.now)
    where = attempt.pool if attempt else node.pool.id
    since = job.started or draft.now.market
    job = draft.job(job, "running", JobFact.STARTED, why=f"runs on {where}", started=since)
    turns.begin(draft, job, since)


def unplace(draft: Draft, job: Job, why: str, avoid: str = "") -> None:
    """The placement found for the job fell through: give the rest of it back and queue."""
    rest = tuple(name for name in job.next_nodes if name not in job.nodes)  # a kept machine is still the old gang's
    avoided = avoiding(draft, job, avoid) if avoid else job.avoid
    resized = len(rest) < len(job.next_nodes) and job.state is JobState.RUNNING  # then the wish ends: it works on
    after = After.NOTHING if resized else job.after
    job = draft.job(job, "unplaced", next_nodes=(), avoid=avoided, after=after)
    release(draft, rest)
    if job.state is JobState.STARTING and quiet(draft, job):
        draft.job(job, "requeued", JobFact.REFUSED, why=why, nodes=(), places=())
    draft.state.dirty = True


# -- ending ---------------------------------------------------------------------------------------------------------


def drain(draft: Draft, job: Job, after: After, why: str, *, grace: Millis | None = None) -> None:
    """Checkpoint, then leave; `after` says what follows. Settles at once when nothing runs."""
    job = draft.job(job, "draining", JobFact.DRAIN, why=why, after=after)
    if after is not After.MOVE and job.next_nodes:
        release(draft, (name for name in job.next_nodes if name not in job.nodes))
        job = draft.job(job, "unplaced", next_nodes=())
    stop(draft, job, why, grace)
    if quiet(draft, job):
        settle(draft, job)


def stop(draft: Draft, job: Job, why: str, grace: Millis | None = None) -> None:
    """Order every rank that may be alive to save and leave."""
    for name in job.nodes:
        node = draft.state.nodes.get(name)
        if node is not None and node.running:
            wait = job.spec.drain if grace is None else grace
            draft.do(TellStop(node=name, job=job.id, generation=job.generation, grace=wait, why=why))


def settle(draft: Draft, job: Job) -> None:
    """All ranks of the generation are proved gone: decide from how they ended what follows."""
    attempt = draft.state.attempt(job)
    if attempt is not None:
        outcome = _outcome(job, attempt)
        ran = Change("job", job.id, {"ran": time_running(draft, job)})
        attempt = draft.attempt(attempt, "ended", ran, why=outcome, ended=draft.now, outcome=outcome)
        job = draft.state.jobs[job.id]
        _forget_started(draft, job)
    if attempt is not None and _all_done(attempt):
        if job.state is JobState.STARTING:  # it ended before every node had said that it began
            job = draft.job(job, "running", JobFact.STARTED, started=job.started or draft.now.market)
        end(draft, job, JobFact.SUCCEED, "every rank ended with 0", exit_code=0)
    elif job.state is JobState.DRAINING:
        _settle_drain(draft, job)
    elif attempt is None or attempt.lost:
        _again(draft, job, JobFact.NODE_LOST, "a node was lost")
    elif attempt.cause is None:
        # It may drain until it ends, and would refuse every new generation: not again at once.
        job = _back_off(draft, job, draft.terms.crash_wait)
        _again(draft, job, JobFact.NODE_LOST, "drained by its node")
    elif _final(job, attempt.cause):
        end(draft, job, JobFact.FAIL, f"user exit {attempt.cause}{_quote(attempt)}", exit_code=attempt.cause)
    else:
        _crashed(draft, job, attempt.cause, attempt)


def time_running(draft: Draft, job: Job) -> Millis:
    """Market time that the job has run, all attempts together; waiting and pauses do not count."""
    attempt = draft.state.attempt(job)
    if attempt is None or attempt.running is None:
        return job.ran
    return Millis(job.ran + draft.now.market - attempt.running.market)


def _final(job: Job, code: int) -> bool:
    """Whether this exit code is not worth another try."""
    if job.spec.retry_on and code not in AGAIN:
        return code not in job.spec.retry_on
    return code == EXIT_NEVER_RETRY


def _back_off(draft: Draft, job: Job, wait: Millis) -> Job:
    """Not placed or started before about `wait` from now."""
    job = draft.job(job, "backoff", due=Instant(draft.now.wall + draft.jitter(wait)))
    draft.do(WakeAt(at=job.due))
    return job


def _outcome(job: Job, attempt: Attempt) -> str:
    if _all_done(attempt):
        return "succeeded"
    if attempt.lost:
        return "node lost"
    if job.state is JobState.DRAINING:
        return f"drained: {job.after or 'interrupted'}"
    return "drained" if attempt.cause is None else f"exit {attempt.cause}"


def _all_done(attempt: Attempt) -> bool:
    return len(attempt.exits) == attempt.world_size and not any(attempt.exits.values())


def _forget_started(draft: Draft, job: Job) -> None:
    draft.learn(draft.state.intervals, job.id, None)
    for node in job.nodes:
        draft.learn(draft.state.started, node, None)


def _settle_drain(draft: Draft, job: Job) -> None:
    match job.after:
        case After.PAUSE:
            _rest(draft, job, JobFact.PAUSE, "paused", job.reason)
        case After.HOLD:
            job = draft.job(job, "requeued", JobFact.REQUEUE)
            _rest(draft, job, JobFact.HOLD, "held", job.reason)
        case After.CANCEL:
            end(draft, job, JobFact.CANCEL, job.reason)
        case After.NOTHING | After.MOVE:
            _again(draft, job, JobFact.REPLACE, "saved and quiet: moves on")
        case After.YIELD:
            _again(draft, job, JobFact.REPLACE, job.reason)


def _rest(draft: Draft, job: Job, fact: JobFact, kind: str, why: str) -> None:
    nodes = dict.fromkeys((*job.nodes, *job.next_nodes))
    draft.job(job, kind, fact, why=why, nodes=(), next_nodes=(), after=After.NOTHING)
    release(draft, nodes)


def _again(draft: Draft, job: Job, fact: JobFact, why: str) -> None:
    """Run the next generation: on the nodes already found, on its own ones when they are whole, else wherever."""
    following = job.next_nodes or _whole(draft, job) or _shrunk(draft, job)
    if not following and job.state is JobState.RUNNING:
        job = draft.job(job, "interrupted", JobFact.NODE_LOST)
    fact = JobFact.REQUEUE if not following else fact
    old = tuple(n for n in job.nodes if n not in following)
    if following:
        job = draft.job(job, "restarting", fact, why=why, nodes=(), next_nodes=following, after=After.NOTHING)
    else:  # a migration's wish ends here: anywhere is better than waiting for one place
        job = draft.job(job, "requeued", fact, why=why, nodes=(), next_nodes=(), after=After.NOTHING, places=())
    release(draft, old)
    try_start(draft, draft.state.jobs[job.id])
    draft.state.dirty = True


def _whole(draft: Draft, job: Job) -> tuple[str, ...]:
    nodes = [draft.state.nodes.get(n) for n in job.nodes]
    fit = all(n is not None and n.state is NodeState.READY and n.notice is None and not n.leaving for n in nodes)
    return job.nodes if nodes and fit and job.after is After.NOTHING else ()


def _shrunk(draft: Draft, job: Job) -> tuple[str, ...]:
    """What is left of its gang, where its elastic range allows to go on with that."""
    return survivors(draft.state, job, draft.policy.nodes_max) if job.after is After.NOTHING else ()


def _crashed(draft: Draft, job: Job, cause: int, attempt: Attempt) -> None:
    """The job's own failure: again after a growing wait, until it makes no progress too often."""
    progressed = job.checkpoint_step > job.best_step
    strikes = 1 if progressed else job.strikes + 1
    own = cause not in (EXIT_SAVED, EXIT_PEER_LOST)
    job = draft.job(
        job, "crashed", strikes=strikes, failures=job.failures + own, best_step=job.checkpoint_step, exit_code=cause
    )
    if strikes > job.spec.retries:
        why = f"crash loop: {strikes} ends in a row without a newer checkpoint, last exit {cause}{_quote(attempt)}"
        end(draft, job, JobFact.FAIL, why, exit_code=cause)
        return
    terms = draft.terms
    if own:
        job = _back_off(draft, job, Millis(min(terms.crash_wait << min(strikes - 1, 10), terms.crash_wait_max)))
    _again(draft, job, JobFact.CRASHED, f"exit {cause}, try {strikes + 1} of {job.spec.retries + 1}{_quote(attempt)}")


def _quote(attempt: Attempt) -> str:
    lines = attempt.tail.strip().splitlines()
    return f": {lines[-1][:200]}" if lines else ""


def end(draft: Draft, job: Job, fact: JobFact, why: str, *, exit_code: int | None = None) -> None:
    """The job is over; its nodes go to the next one or back."""
    nodes = dict.fromkeys((*job.nodes, *job.next_nodes))
    changed: dict[str, Any] = {"exit_code": exit_code} if exit_code is not None else {}
    draft.job(
        job, "ended", fact, why=why, nodes=(), next_nodes=(), after=After.NOTHING, ended=draft.now.market, **changed
    )
    state = draft.state
    times: tuple[dict[str, Any], ...] = (state.reviewed, state.shares, state.revisits, state.due, state.said)
    for known in (*times, state.waits, state.blind, state.pondered):
        draft.learn(known, job.id, None)
    release(draft, nodes)
    draft.state.dirty = True
