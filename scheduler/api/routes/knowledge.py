"""What is known of the market: how good the predictions were, which pools are left alone, what to reserve."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import asdict
from typing import Final, cast

from starlette.responses import Response

from dsched.scheduler.api import answer
from dsched.scheduler.api.context import Api
from dsched.scheduler.api.route import Call, Route
from dsched.scheduler.auth.permission import Permission
from dsched.scheduler.core.commitment import Contract, Paid, Running, advice, used
from dsched.scheduler.core.holdings import holdings
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.snapshot import State
from dsched.scheduler.core.units import HOUR, Instant, Millis, text, to_micro_usd
from dsched.scheduler.wire import knowledge as wire

WINDOW: Final = Millis(30 * 24 * HOUR)  # market: a month has its quiet weeks in it


async def calibration(api: Api, call: Call) -> Response:
    """Predictions of an interruption within the hour against what happened, and the cool-downs that run."""
    known = api.extras.calibration()
    state, now = api.control.state, api.control.now()
    cooling = [
        wire.Cooling(
            pool=memory.pool,
            left_s=(memory.cool_until - now.market) / 1000,
            why=memory.why,
            refusals=memory.refusals,
            interruptions=memory.interruptions,
        )
        for memory in state.pools.values()
        if memory.cool_until > now.market
    ]
    return answer.one(
        wire.Calibration(
            count=known.count,
            brier=known.brier,
            base=known.base,
            skill=known.skill,
            rows=[cast(wire.CalibrationRow, asdict(row)) for row in known.rows],
            cooling=sorted(cooling, key=lambda row: (row["left_s"], row["pool"])),
        )
    )


async def commitments(api: Api, call: Call) -> Response:
    """What reserved machines would have saved, and what those that are held are used for, by the ledger."""
    state, now = api.control.state, api.control.now()
    offers = dict(state.offers)
    booked = await asyncio.to_thread(lambda: api.queries.ledger(since=Instant(now.market - WINDOW)))
    paid = [
        Paid(pool.provider, pool.region, pool.shape, entry.rate, entry.start, entry.end)
        for entry in booked
        if entry.kind == "compute" and entry.pool in offers and (pool := offers[entry.pool].pool).market != "reserved"
    ]
    found = await asyncio.to_thread(lambda: advice(paid, offers, now.market, WINDOW))
    rows = [
        wire.Commitment(
            provider=one.provider,
            region=one.region,
            shape=one.shape,
            machines=one.machines,
            reserved=text(one.reserved),
            paid=text(one.paid),
            saving=text(one.saving),
            used=one.used,
            breaks_even=one.breaks_even,
        )
        for one in found
    ]
    held = [
        wire.Holding(
            name=one.name,
            pool=one.pool,
            paid=text(to_micro_usd(one.paid)),
            used=one.share,
            beside=text(to_micro_usd(one.beside)),
        )
        for one in holdings(booked)
    ]
    promised = contracts(api.extras.contracts(), state)
    return answer.one(wire.Commitments(window_s=WINDOW / 1000, rows=rows, held=held, contracts=promised))


def contracts(known: Iterable[Contract], state: State) -> list[wire.Contract]:
    """With the share that what runs on demand now makes use of."""
    running = [
        Running(
            provider=pool.provider,
            region=pool.region,
            shape=pool.shape,
            chip=offer.shape.accelerator.name if offer.shape.accelerator else "",
            gpus=offer.shape.gpus,
            listed=node.on_demand or node.rate,
            ours=node.rate,
        )
        for node in state.nodes.values()
        if node.launched is not None and (pool := node.pool).market is Market.ON_DEMAND
        if (offer := state.offers.get(pool.id)) is not None
    ]
    return [
        wire.Contract(
            provider=one.provider,
            kind=one.kind,
            id=one.id,
            region=one.region,
            covers=one.covers,
            count=one.count,
            per_hour=text(one.per_hour),
            until=one.until,
            used=used(one, running),
        )
        for one in known
    ]


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/market/calibration",
        permission=Permission.SEE,
        handler=calibration,
        answer=wire.Calibration,
    ),
    Route(
        method="GET",
        path="/v1/market/commitments",
        permission=Permission.SEE,
        handler=commitments,
        answer=wire.Commitments,
    ),
)
