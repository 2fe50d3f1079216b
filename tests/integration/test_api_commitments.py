"""What to reserve, by what the ledger of a real store says was paid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dsched.scheduler.core.draft import insert
from dsched.scheduler.core.event import Event
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.message import OffersSeen
from dsched.scheduler.core.snapshot import LedgerEntry
from dsched.scheduler.core.units import HOUR, Charge, Instant, Millis, charge, price
from tests.support.office import NOON, office
from tests.support.stage import offer

pytestmark = pytest.mark.anyio
DAYS = Millis(30 * 24 * HOUR)


async def test_reserved_capacity_below_what_was_paid_is_advised(tmp_path: Path) -> None:
    async with office(tmp_path) as home:
        dear, held = offer("a", 40.0, market=Market.ON_DEMAND), offer("a", 25.0, market=Market.RESERVED)
        at = NOON.market
        fresh = [replace(o, quote=replace(o.quote, at=at)) for o in (dear, held) if o.quote]
        await home.loop.send(OffersSeen(provider="local", offers=tuple(fresh)))
        start = Instant(at - DAYS)
        entry = LedgerEntry(
            node="n.0", job="", budget="default", pool=dear.pool.id, kind="compute", rate=price(40), on_demand=None,
            start=start, end=at, source="test", quoted=start, owed=charge(price(40), DAYS), baseline=Charge(0),
        )  # fmt: skip
        event = Event(kind="ledger.booked", at=NOON, changes=(insert("ledger", "n.0/0/compute", entry),))
        await home.store.commit([event])
        async with home.client() as client:
            told = (await client.get("/v1/market/commitments")).json()
        assert told["window_s"] == DAYS / 1000
        assert [(row["machines"], row["reserved"], row["paid"]) for row in told["rows"]] == [(1, "25.00", "40.00")]
        assert float(told["rows"][0]["saving"]) == pytest.approx(15 * 720)
