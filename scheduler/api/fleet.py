"""Offers, nodes and events as the wire shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dsched.scheduler.core.event import Event
from dsched.scheduler.core.market import Offer
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.snapshot import Attempt, Node, State
from dsched.scheduler.core.units import MICRO, MicroUsdPerHour, Moment, text
from dsched.scheduler.wire import api as wire

POLICY: Final = Policy()  # how old a price may be is no setting


def offer_row(state: State, offer: Offer, now: Moment, history: Sequence[float] = ()) -> wire.Offer:
    pool, shape, quote = offer.pool, offer.shape, offer.quote
    memory = state.pools.get(pool.id)
    cool = max(0, memory.cool_until - now.market) if memory is not None else 0
    per_gpu = quote.price // shape.gpus if quote is not None and shape.gpus else None
    return {
        "id": pool.id,
        "provider": pool.provider,
        "region": pool.region,
        "zone": pool.zone,
        "shape": shape.name,
        "accelerator": shape.accelerator.name if shape.accelerator else "",
        "market": pool.market.value,
        "gpus": shape.gpus,
        "price": None if quote is None else text(quote.price),
        "on_demand": None if offer.on_demand is None else text(offer.on_demand),
        "per_gpu": None if per_gpu is None else text(per_gpu),
        "age_s": None if quote is None else (now.market - quote.at) / 1e3,
        "stale": quote is not None and now.market - quote.at > POLICY.stale_in(pool.market),
        "source": "" if quote is None else quote.source,
        "free": offer.free,
        "hazard": offer.hazard,
        "cool_s": cool / 1e3 if cool else None,
        "cool_why": memory.why if memory is not None and cool else "",
        "history": list(history),
    }


def node_row(state: State, node: Node, now: Moment) -> wire.Node:
    heard = state.heard.get(node.id)
    return {
        "id": node.id,
        "state": node.state.value,
        "where": node.pool.id,
        "gpus": node.gpus,
        "job": node.job,
        "generation": node.generation,
        "rate": text(node.rate),
        "lease_s": (node.lease_until - now.wall) / 1e3,
        "heard_s": None if heard is None else (now.wall - heard) / 1e3,
        "launched": node.launched,
        "notice_wall": node.notice,
        "ref": node.ref,
    }


def attempt_row(attempt: Attempt) -> wire.Attempt:
    return {
        "generation": attempt.generation,
        "where": attempt.pool,
        "nodes": list(attempt.nodes),
        "world_size": attempt.world_size,
        "decided": attempt.decided.market,
        "running": None if attempt.running is None else attempt.running.market,
        "ended": None if attempt.ended is None else attempt.ended.market,
        "outcome": attempt.outcome,
        "first_step": attempt.first_step,
        "last_step": attempt.last_step,
    }


def event_row(seq: int, event: Event) -> wire.Event:
    return {
        "seq": seq,
        "wall": event.at.wall,
        "market": event.at.market,
        "kind": event.kind,
        "job": event.job,
        "node": event.node,
        "why": event.why,
        "data": dict(event.data),
    }


def filled(prices: Sequence[MicroUsdPerHour | None]) -> list[float]:
    """Prices in $/h without holes: the last known one holds, the first one reaches back. [] when none is known."""
    known = [price for price in prices if price is not None]
    if not known:
        return []
    last, whole = known[0], []
    for price in prices:
        last = last if price is None else price
        whole.append(last / MICRO)
    return whole
