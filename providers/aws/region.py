"""One region: what is sold there at which price, as far as it is known, and how old that knowledge is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dsched.providers.aws import prices, reserve
from dsched.providers.aws.advice import Classes, scores
from dsched.providers.aws.client import Account, Bucket
from dsched.providers.aws.compute import NAME
from dsched.providers.aws.fleet import Fleet
from dsched.providers.aws.gang import Gangs
from dsched.providers.aws.kept import Kept
from dsched.providers.aws.settings import Settings
from dsched.providers.aws.shapes import Kind, kinds_from
from dsched.providers.aws.zones import Zones, zones_from
from dsched.providers.base import Known, ProviderError
from dsched.providers.catalog import Catalog
from dsched.scheduler.core.hold import SUNK
from dsched.scheduler.core.market import Advice, Market, Offer, Pool, Quote
from dsched.scheduler.core.units import SECOND, Instant, Millis

NOTICE: Final = Millis(120 * SECOND)  # EC2's word: two minutes
BOOT: Final = Millis(90 * SECOND)  # a prior; what the pools really take is measured

Sold = list[tuple[str, str]]  # (zone id, shape)


class Region:
    """Prices are kept as long as the settings say; a failed question leaves the older answer with its age."""

    def __init__(
        self,
        name: str,
        account: Account,
        cluster: str,
        settings: Settings,
        catalog: Catalog,
        now: Callable[[], Instant],
        known: Known,
    ) -> None:
        self.name, self._account, self._settings, self._catalog, self._now = name, account, settings, catalog, now
        self._known = known
        self.fleet = Fleet(account, name, cluster)
        self.gangs = Gangs(account, name, cluster, settings, now)
        self.launches = Bucket(settings.launches_per_second, settings.launches_at_once)
        self._zones = Kept(settings.list_every, self._ask_zones, now)
        self._kinds = Kept(settings.list_every, self._ask_kinds, now)
        self._sold = Kept(settings.list_every, self._ask_sold, now)
        self._listed = Kept(settings.list_every, self._ask_listed, now)
        self._spot = Kept(settings.spot_every, self._ask_spot, now)
        self._held = Kept(settings.reserved_every, self._ask_held, now)
        self._scores = Kept(settings.scores_every, self._ask_scores, now)
        self.last: list[Offer] = []  # what was told last

    async def zones(self) -> Zones:
        return await self._zones.get()

    async def kind(self, shape: str) -> Kind | None:
        return (await self._kinds.get()).get(shape)

    async def vcpus(self) -> dict[str, int]:
        return {name: kind.shape.vcpus for name, kind in (await self._kinds.get()).items()}

    async def shapes(self) -> list[str]:
        return list(await self._kinds.get())

    async def offers(self, classes: Classes) -> list[Offer]:
        """Every pool with a price. Raises ProviderError when what is sold, or a spot price, cannot be known."""
        kinds, sold = await self._kinds.get(), await self._sold.get()
        listed = await self.listed()
        found: list[Offer] = []
        if "spot" in self._settings.markets:
            spot = await self._spot.get()
            if self._spot.error is not None:
                raise self._spot.error
            told = await self._advice(classes)
            found += [
                self._offer(zone, kinds[shape], Market.SPOT, quote, listed, advice=told.get((zone, shape)))
                for zone, shape in sold
                if "spot" in kinds[shape].markets and (quote := spot.get((zone, shape))) is not None
            ]
        if "on-demand" in self._settings.markets:
            found += [
                self._offer(zone, kinds[shape], Market.ON_DEMAND, listed[shape], listed)
                for zone, shape in sold
                if "on-demand" in kinds[shape].markets and shape in listed
            ]
        if "reserved" in self._settings.markets:
            found += self._reserved(await self._held.get(), kinds, listed)
        self.last = found
        return found

    def _offer(
        self,
        zone: str,
        kind: Kind,
        market: Market,
        quote: Quote,
        listed: dict[str, Quote],
        *,
        free: int | None = None,
        until: Instant | None = None,
        advice: Advice | None = None,
    ) -> Offer:
        own = listed.get(kind.shape.name)
        return Offer(
            pool=Pool(NAME, self.name, zone, kind.shape.name, market),
            shape=kind.shape,
            quote=quote,
            on_demand=None if own is None else own.price,
            free=free,
            hazard=None if market is Market.SPOT else 0.0,
            notice=NOTICE if market is Market.SPOT else Millis(0),
            boot=BOOT,
            advice=advice,
            until=until,
        )

    def _reserved(self, held: list[reserve.Held], kinds: dict[str, Kind], listed: dict[str, Quote]) -> list[Offer]:
        """One offer per zone and shape, with the slots of all that is held there; it ends with the first of them."""
        at = self._held.at if self._held.at is not None else self._now()
        slots: dict[tuple[str, str], list[reserve.Held]] = {}
        for one in held:
            if one.shape in kinds:
                slots.setdefault((one.zone, one.shape), []).append(one)
        return [
            self._offer(
                zone,
                kinds[shape],
                Market.RESERVED,
                Quote(price=SUNK, at=at, source="+".join(sorted({one.what for one in own}))),
                listed,
                free=sum(one.free for one in own),
                until=min((one.until for one in own if one.until is not None), default=None),
            )
            for (zone, shape), own in sorted(slots.items())
        ]

    async def slot(self, pool: Pool, count: int) -> reserve.Held | None:
        """Where `count` machines of a reserved pool can go together, as of now: what ends first is used first."""
        slots = [one for one in await self._ask_held() if (one.zone, one.shape) == (pool.zone, pool.shape)]
        rank = {"block": 0, "reservation": 1, "instances": 2}
        fits = sorted((rank[one.what], one.until or 0, one.id, one) for one in slots if one.free >= count)
        return fits[0][3] if fits else None

    async def listed(self) -> dict[str, Quote]:
        """On-demand prices: AWS's; where it tells none the newer one of what was imported and of the catalog's."""
        try:
            own = await self._listed.get()
        except ProviderError:
            own = {}
        return {**self._catalogued(await self._kinds.get()), **own}

    def _catalogued(self, kinds: dict[str, Kind]) -> dict[str, Quote]:
        found: dict[str, Quote] = {}
        for shape in kinds:
            if (usd := self._catalog.on_demand(shape, self.name)) is not None:
                origin = self._catalog.listings[shape].origin
                at = prices.midnight(origin.as_of)
                found[shape] = Quote(price=usd, at=at, source=f"catalog: {origin}")
            told = self._known.quote(NAME, self.name, "", shape, Market.ON_DEMAND)
            if told is not None and (shape not in found or told.at > found[shape].at):
                found[shape] = told
        return found

    async def _advice(self, classes: Classes) -> dict[tuple[str, str], Advice]:
        """Hints are welcome, never necessary."""
        try:
            told = await self._scores.get()
        except ProviderError:
            told = {}
        pools = {*told, *((zone, shape) for zone, shape in await self._sold.get() if (self.name, shape) in classes)}
        return {key: Advice(score=told.get(key), interruption_class=classes.get((self.name, key[1]))) for key in pools}

    async def _ask_zones(self) -> Zones:
        answer = await self._account.ask("ec2", self.name, "describe_availability_zones")
        return zones_from(answer["AvailabilityZones"])

    async def _ask_kinds(self) -> dict[str, Kind]:
        filters = [{"Name": "instance-type", "Values": list(self._settings.shapes)}]
        rows = await self._account.rows("ec2", self.name, "describe_instance_types", "InstanceTypes", Filters=filters)
        return kinds_from(rows, self._catalog)

    async def _ask_sold(self) -> Sold:
        kinds, zones = await self._kinds.get(), await self._zones.get()
        filters = [{"Name": "instance-type", "Values": list(self._settings.shapes)}]
        rows = await self._account.rows(
            "ec2",
            self.name,
            "describe_instance_type_offerings",
            "InstanceTypeOfferings",
            LocationType="availability-zone-id",
            Filters=filters,
        )
        found = {(row["Location"], row["InstanceType"]) for row in rows}
        return sorted((zone, shape) for zone, shape in found if zone in zones.names and shape in kinds)

    async def _ask_listed(self) -> dict[str, Quote]:
        return await prices.listed(self._account, self.name, await self._kinds.get(), self._now())

    async def _ask_spot(self) -> prices.Priced:
        shapes = [name for name, kind in (await self._kinds.get()).items() if "spot" in kind.markets]
        if not shapes:
            return {}
        return await prices.spot_now(self._account, self.name, await self._zones.get(), shapes, self._now())

    async def _ask_held(self) -> list[reserve.Held]:
        return await reserve.held(
            self._account, self.name, await self._zones.get(), await self._sold.get(), self._now()
        )

    async def _ask_scores(self) -> dict[tuple[str, str], int]:
        kinds = await self._kinds.get()
        wanted = tuple(shape for shape in self._settings.scores if shape in kinds)
        return await scores(self._account, self.name, wanted) if wanted else {}
