"""What machines cost: spot prices now and back to 90 days, on-demand prices from the public price list."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final

from dsched.providers.aws.client import Account
from dsched.providers.aws.zones import Zones
from dsched.scheduler.core.market import Market, Pool, Quote
from dsched.scheduler.core.units import Instant, MicroUsdPerHour, Millis, price

SLICE: Final = Millis(7 * 86_400_000)  # of a back-fill: a week of all shapes of a region is some thousand rows
SPOT: Final = "DescribeSpotPriceHistory"
LIST: Final = "GetProducts"
FAMILY: Final = "GPU instance"  # one question for nearly all that is sold with a GPU
ASK_EACH_MAX: Final = 20  # of the others one question each, so many: the price list answers ten a second
_LINUX: Final = "Linux/UNIX"

Priced = dict[tuple[str, str], Quote]  # (zone id, shape)


async def spot_now(account: Account, region: str, zones: Zones, shapes: Collection[str], now: Instant) -> Priced:
    """The spot prices in force, as observed now. A pool without one is not sold there."""
    rows = await _history(account, region, shapes, now, None)
    found: dict[tuple[str, str], tuple[datetime, MicroUsdPerHour]] = {}
    for row in rows:
        key, step = (zones.of(row), row["InstanceType"]), (row["Timestamp"], price(row["SpotPrice"]))
        if step[1] > 0 and (key not in found or step[0] >= found[key][0]):
            found[key] = step
    return {key: Quote(price=usd, at=now, source=SPOT) for key, (_, usd) in found.items()}


async def spot_history(
    account: Account, region: str, zones: Zones, shapes: Collection[str], since: Instant, until: Instant
) -> list[tuple[Pool, Quote]]:
    """The steps of every pool's spot price in that time, in its order. EC2 remembers 90 days.

    It repeats the price in force at the beginning; that is told as of then.
    """
    rows = await _history(account, region, shapes, since, until)

    def steps() -> list[tuple[Pool, Quote]]:
        found = [
            (
                Pool("aws", region, zones.of(row), row["InstanceType"], Market.SPOT),
                Quote(price=price(row["SpotPrice"]), at=max(since, instant(row["Timestamp"])), source=SPOT),
            )
            for row in rows
            if instant(row["Timestamp"]) < until
        ]
        return sorted(found, key=lambda step: (step[1].at, step[0]))

    return await asyncio.to_thread(steps)  # tens of thousands of rows in a week of many shapes


async def _history(
    account: Account, region: str, shapes: Collection[str], since: Instant, until: Instant | None
) -> list[Any]:
    span = {"StartTime": moment(since)} | ({} if until is None else {"EndTime": moment(until)})
    return await account.rows(
        "ec2",
        region,
        "describe_spot_price_history",
        "SpotPriceHistory",
        InstanceTypes=sorted(shapes),
        ProductDescriptions=[_LINUX],
        **span,
    )


async def listed(account: Account, region: str, shapes: Collection[str], now: Instant) -> dict[str, Quote]:
    """The on-demand price of each shape; one that is absent is not sold on demand here, or not known."""
    found = _products(await _ask_list(account, region, "instanceFamily", FAMILY), region, shapes)
    for shape in sorted(set(shapes) - set(found))[:ASK_EACH_MAX]:
        found |= _products(await _ask_list(account, region, "instanceType", shape), region, shapes)
    return {shape: Quote(price=usd, at=now, source=LIST) for shape, usd in found.items()}


async def _ask_list(account: Account, region: str, field: str, value: str) -> list[Any]:
    wanted = {
        "regionCode": region,
        field: value,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": text} for name, text in wanted.items()]
    return await account.rows("pricing", region, "get_products", "PriceList", ServiceCode="AmazonEC2", Filters=filters)


def _products(texts: Iterable[Any], region: str, shapes: Collection[str]) -> dict[str, MicroUsdPerHour]:
    """Each product is a JSON text; the dearest of several counts, since the others are special cases of it."""
    found: dict[str, MicroUsdPerHour] = {}
    for text in texts:
        product = json.loads(text) if isinstance(text, str) else text
        facts = product["product"]["attributes"]
        shape = facts.get("instanceType", "")
        if shape not in shapes or facts.get("regionCode", region) != region:
            continue
        for usd in _hourly(product.get("terms", {}).get("OnDemand", {})):
            found[shape] = max(usd, found.get(shape, usd))
    return found


def _hourly(terms: Mapping[str, Any]) -> Iterable[MicroUsdPerHour]:
    for term in terms.values():
        for dimension in term["priceDimensions"].values():
            usd = dimension.get("pricePerUnit", {}).get("USD")
            if dimension.get("unit") == "Hrs" and usd is not None and (told := price(usd)) > 0:
                yield told


def instant(at: datetime) -> Instant:
    return Instant(round(at.timestamp() * 1_000))


def moment(at: Instant) -> datetime:
    return datetime.fromtimestamp(at / 1_000, UTC)


def midnight(day: date) -> Instant:
    return instant(datetime(day.year, day.month, day.day, tzinfo=UTC))
