"""Offers and nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from starlette.responses import Response

from dsched.scheduler.api import answer
from dsched.scheduler.api.context import Api
from dsched.scheduler.api.fleet import filled, node_row, offer_row
from dsched.scheduler.api.route import Call, Route
from dsched.scheduler.auth.permission import Permission
from dsched.scheduler.core.units import MicroUsdPerHour
from dsched.scheduler.wire import api as wire


class OffersQuery(msgspec.Struct, forbid_unknown_fields=True):
    history: bool = False  # the last market day's prices too


async def offers(api: Api, call: Call) -> Response:
    """Every pool with its price now, and whether we avoid it."""
    control = api.control
    history: Mapping[str, Sequence[MicroUsdPerHour | None]] = {}
    if call.query.history:
        pools = list(control.state.offers)
        history = await asyncio.to_thread(lambda: api.queries.history(pools, now=control.now().market))
    state, now = control.state, control.now()
    return answer.items(
        offer_row(state, offer, now, filled(history.get(name, ()))) for name, offer in state.offers.items()
    )


async def nodes(api: Api, call: Call) -> Response:
    """The machines that are ours now."""
    state, now = api.control.state, api.control.now()
    return answer.items(node_row(state, node, now) for node in state.nodes.values())


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/offers",
        permission=Permission.SEE,
        handler=offers,
        query=OffersQuery,
        answer=list[wire.Offer],
    ),
    Route(method="GET", path="/v1/nodes", permission=Permission.SEE, handler=nodes, answer=list[wire.Node]),
)
