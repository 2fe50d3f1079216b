"""From plan to intents: what the planner chose becomes durable wishes, and a refusal becomes a cool-down.

The planner is asked only when something changed that could let a waiting job run; see asking.py for whom it is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from dsched.scheduler.core import fleet, hazard, ledger, lifecycle, preempt, proposal, report, whatif
from dsched.scheduler.core.asking import ask, doubted, waiting
from dsched.scheduler.core.budget import totals
from dsched.scheduler.core.discount import discounted
from dsched.scheduler.core.draft import Dice, Draft, insert
from dsched.scheduler.core.effect import CallLaunch, SendAlert, WakeAt
from dsched.scheduler.core.elastic.review import watch_prices
from dsched.scheduler.core.event import Change
from dsched.scheduler.core.hold import marginal
from dsched.scheduler.core.holding import ask_end, leave, met, remembered
from dsched.scheduler.core.hope import Hope
from dsched.scheduler.core.market import Market, Offer, Pool
from dsched.scheduler.core.message import (
    Launched,
    LaunchRefused,
    LaunchUnanswered,
    OffersSeen,
    QuotasSeen,
    Refusal,
    RefusedBy,
    Submit,
)
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.plan import feasible_deadline, plan
from dsched.scheduler.core.share import shares
from dsched.scheduler.core.snapshot import (
    After,
    Alert,
    Intent,
    Job,
    Node,
    PoolMemory,
    State,
    queue_class,
)
from dsched.scheduler.core.spotshare import limited
from dsched.scheduler.core.state import (
    INTENT,
    IntentFact,
    IntentState,
    JobState,
    NodeFact,
    step,
)
from dsched.scheduler.core.taking import record, take
from dsched.scheduler.core.units import HOUR, Instant, Millis, Moment
from dsched.scheduler.core.work import timely

MUCH: Final = 0.05  # share of a price: jobs that wait for their time hear of smaller falls at their next look


def place(draft: Draft) -> None:
    """One pass of the planner over the first classes that may be placed: all of them, unless they are hundreds."""
    state = draft.state
    state.dirty = False
    if draft.now.wall < state.hold_until:
        draft.learn(state.delayed, "", state.hold_until)
        draft.do(WakeAt(at=state.hold_until))
        return
    for heir in preempt.due(draft):
        _plan(draft, [heir], heir=heir.id)
        preempt.forget(draft, heir)
    jobs, rest = waiting(draft)
    if any(map(timely, jobs)):
        _place_timely(draft, jobs)
    elif jobs:
        _plan(draft, jobs)
    if state.due:
        _revisit(draft)
    preempt.consider(draft)
    state.dirty = state.dirty or rest


def _place_timely(draft: Draft, jobs: list[Job]) -> None:
    """Jobs of which some have a deadline, priority by priority: those with one first, by their policy."""
    from dsched.scheduler.core.timely import obey  # loads numpy, without which a daemon is there the sooner

    for priority in sorted({job.spec.priority for job in jobs}, reverse=True):
        if left := obey.place(draft, [job for job in jobs if job.spec.priority == priority]):
            _plan(draft, left)


def _revisit(draft: Draft) -> None:
    from dsched.scheduler.core.timely import obey  # loads numpy

    obey.revisit(draft)


def _plan(draft: Draft, jobs: list[Job], *, heir: str = "") -> None:
    state = draft.state
    question = ask(state, jobs, draft.policy, draft.now, heir=heir)
    question = replace(question, shares=shares(state, draft.policy, draft.now, jobs))
    answer = proposal.better(draft, question, plan(question, draft.policy, now=draft.now, rng=draft.rng))
    if answer is None:
        return  # a better plan may come
    best, told = answer
    decided, tried = set(), set()
    for chosen in best.placements:
        decided.add(chosen.job)
        if chosen.buy and doubted(state, chosen.pool.id):
            if chosen.pool.id in tried:
                continue  # the next pass offers it the other pools
            tried.add(chosen.pool.id)
        take(draft, state.jobs[chosen.job], chosen, best.reports[chosen.job], told)
    for job in jobs:
        if job.id not in decided and not best.more:
            _blocked(draft, job, best.reports.get(job.id))
    state.dirty = state.dirty or best.more or (bool(decided) and bool(state.waiting or state.moving))


def dry_run(
    state: State,
    job: Job,
    policy: Policy,
    now: Moment,
    rng: Dice,
    changes: Sequence[whatif.Change] = (),
    *,
    whole: bool = True,
) -> tuple[report.Report, Mapping[str, Any]]:
    """What would be chosen for this job now, and what there is to tell of its deadline; changes nothing.

    With changes: what would be chosen if they were true. Raises Refusal for one that cannot be tried. `whole`: tells of
    every offer of a large market, which takes a tenth of a second.
    """
    job = replace(job, spec=limited(job.spec, policy))
    question = ask(state, [job], policy, now)
    if changes:
        question = whatif.applied(question, changes, totals(state, now), policy, now)
        question = replace(question, columns=None)  # the market's own do not know of them
        (job,) = question.jobs
        state = replace(state, offers=dict(question.offers), pools=dict(question.pools))
    if timely(job):
        from dsched.scheduler.core.timely.judge import judge  # loads numpy

        judged = judge(state, job, question, policy, now)
        if judged is not None:
            judged = judged.priced(question.scale)
            return judged.report(job, question, now), judged.more()
    return plan(question, policy, now=now, rng=rng, whole=whole).reports[job.id], {}


def vet(draft: Draft, wish: Submit) -> None:
    """Refuse at the door what could never run: no such hardware, an impossible gang, a deadline nothing can meet.

    A class of jobs is looked at once per market; a job with a deadline or a pinned plan each time, and in full.
    """
    state = draft.state
    job = Job(id="", key=wish.key, spec=wish.spec, state=JobState.QUEUED, submitted=draft.now)
    kind = queue_class(job)
    if not state.offers or (kind in state.vetted and wish.spec.deadline is None and not wish.plan):
        return
    question = ask(state, [job], draft.policy, draft.now)
    hope = Hope(question, draft.now, draft.policy.nodes_max)
    if wish.spec.deadline is None and not wish.plan and hope.suited(wish.spec.need):
        draft.learn(state.vetted, kind, True)
        return
    found, _ = dry_run(state, job, draft.policy, draft.now, draft.rng, whole=False)
    if wish.plan and found.id != wish.plan:
        raise Refusal("E409", f"plan {wish.plan} would not be chosen any more: {found.summary}", hint="dsched plan")
    if wish.spec.deadline is not None and (found.chosen is None or timely(job)):
        _refuse_deadline(draft, question, job)
    if found.hopeless:
        raise Refusal(
            "E406", found.summary, hint="dsched plan SPEC -n 50 shows every offer and its reason", where="gpus"
        )
    draft.learn(state.vetted, kind, True)


def _refuse_deadline(draft: Draft, question: Question, job: Job) -> None:
    """An infeasible deadline is answered with the nearest feasible one and its price."""
    nearest = feasible_deadline(question, job, draft.policy, draft.now)
    if nearest is None or job.spec.deadline is None or nearest.finish <= job.spec.deadline:
        return
    late = (nearest.finish - job.spec.deadline) / HOUR
    raise Refusal(
        "E407",
        f"no offer finishes by the deadline; the earliest finish is {late:.1f} h later, on {nearest.offer}, "
        f"for about {report.dollars(nearest.expected)}",
        hint=f"move the deadline by {late:.1f} h or more, or allow more GPUs or other capacity",
        where="finish_by",
        nearest=nearest.finish,
    )


def _blocked(draft: Draft, job: Job, why: report.Report | None) -> None:
    """Nothing fits this job now. Only the first of a class writes it down; the class waits until the world changes."""
    state = draft.state
    kind = queue_class(job)
    text = why.summary if why else "an earlier job of its kind found no offer"
    if job.state is JobState.QUEUED:
        first = kind in state.waiting
        state.block(kind, text)
        if first and why is not None and job.reason != text:
            _note(draft, job, why, text)
    elif job.after is After.MOVE and job.state is JobState.RUNNING:
        draft.job(job, "stayed", after=After.NOTHING, places=(), why=f"stays where it is: {text}")


def _note(draft: Draft, job: Job, why: report.Report, text: str) -> None:
    decision = record(draft, job, why)
    draft.job(job, "waits", None, insert("decision", decision.id, decision), why=text, decision=decision.id)


# -- answers to launches --------------------------------------------------------------------------------------------


def launched(draft: Draft, message: Launched) -> None:
    """The provider has them all."""
    state = draft.state
    intent = state.intents.get(message.intent)
    if intent is not None:
        fleet.settle_intent(draft, intent, IntentFact.CONFIRM, "done", "")
    for machine in message.nodes:
        node = state.nodes.get(f"{machine.token}.{machine.index}")
        if node is None:
            continue  # its lease ended before the answer came; the next list finds it as an orphan
        node = fleet.arrived(draft, node, machine)
        if not machine.alive:
            fleet.gone(draft, node, machine.ended or draft.now.market, machine.ended_by)
        elif node.leaving:
            ask_end(draft, node)
        elif not _wanted(state, node):
            leave(draft, node, "nobody waits for it any more")


def _wanted(state: State, node: Node) -> bool:
    job = state.jobs.get(node.job)
    return job is not None and (node.id in job.next_nodes or node.id in job.nodes)


def refused(draft: Draft, message: LaunchRefused) -> None:
    """Nothing was left behind: cool the scope down, forget the nodes, plan again."""
    state = draft.state
    intent = state.intents.get(message.intent)
    if intent is None:
        return
    error = f"{message.by}: {message.why}"
    fleet.settle_intent(draft, intent, IntentFact.REFUSE, "refused", error, str(message.by))
    memory = state.pools.get(intent.pool.id)
    known = memory is not None and memory.cool_until > draft.now.market and memory.why == message.why
    _cool(draft, intent, message)
    if message.by is RefusedBy.CAPACITY:
        met(draft, intent.pool.id, up=False)
    for name in intent.nodes:
        node = state.nodes.get(name)
        if node is not None:
            draft.node(node, "gone", NodeFact.GONE, why=error, ended=draft.now.market, ended_by="refused")
    job = state.jobs.get(intent.job)
    if job is not None and set(intent.nodes) & set(job.next_nodes):
        lifecycle.unplace(draft, job, f"{intent.pool.id} refused: {message.why}", intent.pool.id)
        job = draft.job(state.jobs[job.id], "waits", due=Instant(draft.now.wall + _herd(draft)))
        draft.do(WakeAt(at=job.due))
    if message.by in (RefusedBy.QUOTA, RefusedBy.AUTH) and not known:  # the others that were under way say the same
        _tell(draft, intent, error)


def _herd(draft: Draft) -> Millis:
    return draft.jitter(Millis(draft.terms.place_again // 10))


def _cool(draft: Draft, intent: Intent, message: LaunchRefused) -> None:
    state = draft.state
    for pool in _condemned(state, intent.pool, message.scope):
        memory = state.pools.get(pool.id) or PoolMemory(pool=pool.id)
        until = max(memory.cool_until, Instant(draft.now.market + message.cooldown))
        changed = replace(memory, cool_until=until, why=message.why, refusals=memory.refusals + 1)
        draft.learn(state.cooling, pool.id, until)
        draft.say("pool.cooled", remembered(state, changed), why=f"{pool.id}: {message.why}")


def _condemned(state: State, pool: Pool, scope: str) -> set[Pool]:
    """The pools that a refusal is about."""
    ours = {offer.pool for offer in state.offers.values() if offer.pool.provider == pool.provider}
    match scope:
        case "account":
            return {pool, *ours}
        case "region":
            return {pool, *(other for other in ours if other.region == pool.region)}
        case _:
            return {pool}


def _tell(draft: Draft, intent: Intent, error: str) -> None:
    alert = Alert(
        id=f"{intent.provider}-refuses-{intent.id}",
        made=draft.now,
        severity="critical",
        title=f"{intent.provider} refuses launches",
        text=f"{error} (asked for {intent.count} x {intent.pool.id}); dsched doctor names the fix",
    )
    draft.say("alert.raised", insert("alert", alert.id, alert), why=alert.title)
    draft.do(SendAlert(id=alert.id))


def unanswered(draft: Draft, message: LaunchUnanswered) -> None:
    """It may have happened: the same token again, later. Ambiguous is never an end."""
    intent = draft.state.intents.get(message.intent)
    if intent is None:
        return
    terms = draft.terms
    wait = max(message.retry, min(terms.launch_again << min(intent.tries - 1, 10), terms.launch_again_max))
    due = Instant(draft.now.wall + draft.jitter(Millis(wait)))
    changed = {"state": step(INTENT, intent.state, IntentFact.NO_ANSWER), "due": due, "error": message.why}
    draft.say("intent.unanswered", Change("intent", intent.id, changed), job=intent.job, why=message.why)
    draft.do(WakeAt(at=due))


def retry(draft: Draft) -> None:
    """Send again what was not answered, with the same token.

    It is given up only when nobody wants it and the lease is over.
    """
    for intent in list(draft.state.intents.values()):
        if intent.state is IntentState.AMBIGUOUS and intent.due <= draft.now.wall:
            resend(draft, intent)


def resend(draft: Draft, intent: Intent) -> None:
    sent = {"state": step(INTENT, intent.state, IntentFact.SEND), "tries": intent.tries + 1}
    draft.say("intent.sent", Change("intent", intent.id, sent), job=intent.job)
    draft.do(CallLaunch(intent=intent.id))


# -- the market -----------------------------------------------------------------------------------------------------


def offers_seen(draft: Draft, message: OffersSeen) -> None:
    """New quotes: reprice what runs there, and let the queue look again when a price or a capacity moved."""
    state = draft.state
    draft.set("vetted", {})
    ours = {node.pool for node in state.nodes.values() if node.ref}
    fresh = {offer.pool.id: _seen(draft, offer, ours) for offer in message.offers}
    old = {key: offer for key, offer in state.offers.items() if offer.pool.provider == message.provider}
    stale = Instant(draft.now.market - draft.policy.stale_after)
    for id, seen in fresh.items():
        if _good_news(old.get(id), seen):
            draft.tell(id)
    moved = fresh.keys() != old.keys() or any(_moved(old[key], offer, stale) for key, offer in fresh.items())
    rest = {key: offer for key, offer in state.offers.items() if key not in old}
    draft.set("offers", {**rest, **fresh})
    watch_prices(draft, fresh)
    for node in list(state.nodes.values()):
        offer = fresh.get(node.pool.id)
        if offer is None or offer.quote is None or node.launched is None:
            continue
        if offer.quote.price != node.rate:
            ledger.reprice(draft, node, offer.quote, offer.on_demand)
    for name in sorted(state.active):
        lifecycle.retime(draft, state.jobs[name])
    if moved:
        state.wake()


def quotas_seen(draft: Draft, message: QuotasSeen) -> None:
    """What the account may run there. One that was raised gives hope to whoever waits."""
    state = draft.state
    if state.quotas.get(message.provider, ()) == message.quotas:
        return
    draft.set("quotas", {**state.quotas, message.provider: message.quotas})
    for id, offer in state.offers.items():
        if offer.pool.provider == message.provider:
            draft.tell(id)
    state.wake()


def _seen(draft: Draft, offer: Offer, ours: set[Pool]) -> Offer:
    """The offer at our price, with what its pool's age says of its hazard."""
    offer = marginal(discounted(offer, draft.policy.discounts), draft.policy.held, draft.now.market)
    pool, state = offer.pool, draft.state
    if pool.market is not Market.SPOT:
        return offer
    if offer.free is not None:
        met(draft, pool.id, up=offer.free > 0 or pool in ours)
    return hazard.presumed(offer, state.streaks.get(pool.id), draft.now.market)


def _good_news(old: Offer | None, new: Offer) -> bool:
    """Whether somebody who waits for a pool should hear of it: it came up, or is much cheaper."""
    if old is None or (old.free is not None and not old.free and new.free != 0):
        return True
    return new.quote is not None and (old.quote is None or new.quote.price < old.quote.price * (1 - MUCH))


def _moved(old: Offer, new: Offer, stale: Instant) -> bool:
    """Whether it may be chosen now where it was not before: a price confirmed in time is news only if it was stale."""
    if old.quote and old.quote.at < stale:
        return True
    return (old.quote and old.quote.price, old.free) != (new.quote and new.quote.price, new.free)
