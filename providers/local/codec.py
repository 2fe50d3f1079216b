"""The port's values as JSON, for the socket between daemon and cloud and for the cloud's journal."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from dsched.providers.base import (
    Ambiguous,
    Auth,
    Capacity,
    EndReason,
    Invalid,
    Launch,
    Node,
    NodeRef,
    NodeStatus,
    Notice,
    NoticeKind,
    Price,
    ProviderError,
    Quota,
    Scope,
    Throttled,
)
from dsched.scheduler.core.hardware import Accelerator, Shape
from dsched.scheduler.core.market import Market, Offer, Pool, Quote
from dsched.scheduler.core.units import Instant, MicroUsdPerHour, Millis

Json = dict[str, Any]

_ERRORS: Final = {
    kind.__name__: kind for kind in (Capacity, Quota, Price, Throttled, Auth, Invalid, Ambiguous, ProviderError)
}


def pool_to(pool: Pool) -> list[str]:
    return [pool.provider, pool.region, pool.zone, pool.shape, pool.market.value]


def pool_from(raw: list[str]) -> Pool:
    provider, region, zone, shape, market = raw
    return Pool(provider, region, zone, shape, Market(market))


def launch_to(want: Launch) -> Json:
    return {
        "token": want.token,
        "pool": pool_to(want.pool),
        "count": want.count,
        "user_data": want.user_data,
        "lease_until": want.lease_until,
        "price_max": want.price_max,
        "tags": dict(want.tags),
    }


def launch_from(raw: Json) -> Launch:
    price_max = raw["price_max"]
    return Launch(
        token=str(raw["token"]),
        pool=pool_from(raw["pool"]),
        count=int(raw["count"]),
        user_data=str(raw["user_data"]),
        lease_until=Instant(raw["lease_until"]),
        price_max=None if price_max is None else MicroUsdPerHour(price_max),
        tags={str(name): str(value) for name, value in raw["tags"].items()},
    )


def node_to(node: Node) -> Json:
    return {
        "ref": node.ref.id,
        "token": node.token,
        "index": node.index,
        "pool": pool_to(node.pool),
        "status": node.status.value,
        "launched_at": node.launched_at,
        "ended_at": node.ended_at,
        "ended_by": node.ended_by and node.ended_by.value,
    }


def node_from(raw: Json, provider: str) -> Node:
    ended_at, ended_by = raw["ended_at"], raw["ended_by"]
    return Node(
        ref=NodeRef(provider, raw["ref"]),
        token=raw["token"],
        index=raw["index"],
        pool=pool_from(raw["pool"]),
        status=NodeStatus(raw["status"]),
        launched_at=Instant(raw["launched_at"]),
        ended_at=None if ended_at is None else Instant(ended_at),
        ended_by=None if ended_by is None else EndReason(ended_by),
    )


def offers_to(offers: list[Offer]) -> Json:
    """Each shape once, whole: the two sides need not have the same catalog."""
    return {
        "shapes": {offer.shape.name: asdict(offer.shape) for offer in offers},
        "offers": [
            {
                "pool": pool_to(offer.pool),
                "price": offer.quote and offer.quote.price,
                "at": offer.quote and offer.quote.at,
                "source": offer.quote and offer.quote.source,
                "on_demand": offer.on_demand,
                "free": offer.free,
                "hazard": offer.hazard,
                "notice": offer.notice,
                "boot": offer.boot,
            }
            for offer in offers
        ],
    }


def offers_from(raw: Json) -> list[Offer]:
    shapes = {name: _shape_from(row) for name, row in raw["shapes"].items()}
    return [_offer_from(row, shapes) for row in raw["offers"]]


def notice_to(notice: Notice) -> Json:
    return {"kind": notice.kind.value, "ref": notice.ref and notice.ref.id, "deadline": notice.deadline}


def notice_from(raw: Json, provider: str) -> Notice:
    ref, deadline = raw["ref"], raw["deadline"]
    return Notice(
        kind=NoticeKind(raw["kind"]),
        ref=None if ref is None else NodeRef(provider, ref),
        deadline=None if deadline is None else Instant(deadline),
    )


def error_to(problem: ProviderError) -> Json:
    return {
        "kind": type(problem).__name__,
        "code": problem.code,
        "message": str(problem).removeprefix(problem.code).removeprefix(": "),
        "scope": problem.scope.value,
        "cooldown": problem.cooldown,
    }


def error_from(raw: Json) -> ProviderError:
    kind = _ERRORS.get(raw["kind"], ProviderError)
    return kind(raw["code"], raw["message"], scope=Scope(raw["scope"]), cooldown=Millis(raw["cooldown"]))


def _shape_from(raw: Json) -> Shape:
    chip = raw["accelerator"]
    return Shape(**{**raw, "accelerator": None if chip is None else Accelerator(**chip)})


def _offer_from(raw: Json, shapes: dict[str, Shape]) -> Offer:
    price, on_demand = raw["price"], raw["on_demand"]
    pool = pool_from(raw["pool"])
    quote = None if price is None else Quote(price=MicroUsdPerHour(price), at=Instant(raw["at"]), source=raw["source"])
    return Offer(
        pool=pool,
        shape=shapes[pool.shape],
        quote=quote,
        on_demand=None if on_demand is None else MicroUsdPerHour(on_demand),
        free=raw["free"],
        hazard=raw["hazard"],
        notice=Millis(raw["notice"]),
        boot=Millis(raw["boot"]),
    )
