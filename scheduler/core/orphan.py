"""Machines that carry our tag and that no row claims: ended, for ever, every time they are seen, and paid for.

They come of launches that took effect after everybody had given up on them, or of a database that was restored. What is
remembered of one is not durable: after a restart it is found again, and the store tells which rows closed a bill.
"""

from __future__ import annotations

from dataclasses import replace

from dsched.scheduler.core import ledger
from dsched.scheduler.core.draft import Draft
from dsched.scheduler.core.effect import CallTerminate
from dsched.scheduler.core.message import SeenNode
from dsched.scheduler.core.snapshot import LedgerEntry, Node, Orphan
from dsched.scheduler.core.units import Instant, Millis, charge


def key_of(provider: str, ref: str) -> str:
    """The name under which it is remembered; the names of nodes have no colon."""
    return f"{provider}:{ref}"


def found(draft: Draft, provider: str, machine: SeenNode) -> None:
    """It lives: ask for its end, again and again."""
    key = key_of(provider, machine.ref)
    _remember(draft, key, machine)
    last = draft.state.asked.get(key)
    if last is not None and draft.now.wall - last < draft.terms.terminate_again:
        return
    if last is None:
        why = f"{machine.ref} carries our tag and no job claims it: ended"
        draft.say("orphan.found", why=why, data={"ref": machine.ref, "token": machine.token})
    draft.learn(draft.state.asked, key, draft.now.wall)
    draft.do(CallTerminate(provider=provider, refs=(machine.ref,)))


def outlived(draft: Draft, node: Node, since: Instant) -> None:
    """Its lease has proved it quiet and closed its bill; should it be seen alive all the same, it is paid from then."""
    if node.ref:
        draft.learn(draft.state.outlived, key_of(node.pool.provider, node.ref), of(node, since))


def of(node: Node, since: Instant) -> Orphan:
    """The machine of a row whose bill was closed then."""
    return Orphan(
        node=node.id,
        pool=node.pool,
        since=since,
        least=since,
        rate=node.rate,
        on_demand=node.on_demand,
        source=node.rate_source,
        quoted=node.rate_at,
    )


def _remember(draft: Draft, key: str, machine: SeenNode) -> None:
    state = draft.state
    orphan = state.orphans.get(key) or state.outlived.get(key) or _priced(draft, machine)
    if orphan is not None:
        draft.learn(state.outlived, key, None)
        draft.learn(state.orphans, key, replace(orphan, missing=0))


def _priced(draft: Draft, machine: SeenNode) -> Orphan | None:
    """None while its pool's price is not known; a later list finds it with one."""
    offer = draft.state.offers.get(machine.pool.id)
    if offer is None or offer.quote is None:
        return None
    return Orphan(
        node=f"{machine.token}.{machine.index}",
        pool=machine.pool,
        since=machine.launched,
        least=Instant(machine.launched + draft.terms.minimum),
        rate=offer.quote.price,
        on_demand=offer.on_demand,
        source=offer.quote.source,
        quoted=offer.quote.at,
    )


def look(draft: Draft, provider: str, listed: dict[str, SeenNode]) -> None:
    """After a list: book those that have ended, forget what was asked of them. `listed`: by ref, our rows' too."""
    state = draft.state
    for ours in (state.orphans, state.outlived):
        for key, orphan in [(key, ours[key]) for key in ours if key.startswith(f"{provider}:")]:
            machine = listed.get(key.partition(":")[2])
            if machine is not None and machine.alive:
                continue
            if machine is None and orphan.missing + 1 < draft.terms.absent_lists:
                draft.learn(ours, key, replace(orphan, missing=orphan.missing + 1))
                continue
            draft.learn(ours, key, None)
            if ours is state.orphans:
                _book(draft, orphan, (machine.ended if machine else None) or draft.now.market)
    for key in [key for key in state.asked if key.startswith(f"{provider}:")]:
        machine = listed.get(key.partition(":")[2])
        if machine is None or not machine.alive:
            draft.learn(state.asked, key, None)


def _book(draft: Draft, orphan: Orphan, ended: Instant) -> None:
    lasting = Millis(max(ended, orphan.least) - orphan.since)
    if lasting <= 0:
        return
    entry = LedgerEntry(
        node=orphan.node,
        job="",
        budget=ledger.DEFAULT,
        pool=orphan.pool.id,
        kind="orphan",
        rate=orphan.rate,
        on_demand=orphan.on_demand,
        start=orphan.since,
        end=Instant(orphan.since + lasting),
        source=orphan.source,
        quoted=orphan.quoted,
        owed=charge(orphan.rate, lasting),
        baseline=charge(orphan.rate if orphan.on_demand is None else orphan.on_demand, lasting),
    )
    ledger.book_stray(draft, entry)
