"""AWS behind the provider port.

A region that does not answer takes nothing from the others: its machines are told as they were seen last, for a while,
and its offers with their old prices. When nothing can be known, a call raises; it never tells a shorter list.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Final, TypeVar

import structlog

from dsched.providers.aws import advice, compute, notices, prices, quotas, reserve
from dsched.providers.aws.client import Account
from dsched.providers.aws.doctor import examine
from dsched.providers.aws.gang import unsettled
from dsched.providers.aws.kept import Kept
from dsched.providers.aws.region import Region
from dsched.providers.aws.settings import Settings
from dsched.providers.base import (
    Ambiguous,
    Auth,
    Capacity,
    Finding,
    Invalid,
    Known,
    Launch,
    Node,
    NodeRef,
    NodeStatus,
    NothingKnown,
    Notice,
    NoticeKind,
    Price,
    ProviderError,
    Quota,
    Scope,
    Throttled,
)
from dsched.providers.catalog import load
from dsched.scheduler.core.commitment import Contract
from dsched.scheduler.core.market import Market, Offer, Pool, Quote
from dsched.scheduler.core.quota import Quota as AccountQuota
from dsched.scheduler.core.units import MINUTE, SECOND, Instant, Millis

T = TypeVar("T")
log = structlog.get_logger()

BLIND_MAX: Final = Millis(10 * MINUTE)  # so long a region that does not answer is told as it was; leases are longer
PREPARE_S: Final = 3.0  # for the questions before a launch, most of which have been answered before
GANG_S: Final = 5.0  # beside them, to make a gang's network: five calls, one after the other, of half a second each
LISTED_WITHIN: Final = Millis(30 * SECOND)  # EC2 promises nothing; a new machine is listed within a few
UNANSWERED_MAX: Final = 1_000  # tokens remembered for that long
# Refusals that say nothing of an earlier call: EC2 judges its own by the token, which it knows.
_OURS: Final = ("NoFreeSlot", "ListPrice", "NotSold", "IdempotentParameterMismatch")


class AwsProvider:
    """Provider over one account. `cluster` marks what is ours; `used` hears every action as IAM names it."""

    name = compute.NAME
    history_span = prices.SLICE

    def __init__(
        self,
        settings: Settings,
        cluster: str,
        *,
        now: Callable[[], Instant] = notices.wall,
        used: Callable[[str], None] | None = None,
        known: Known | None = None,
    ) -> None:
        """`known`: prices for what AWS's own lists do not tell."""
        self._settings, self._now, self._known = settings, now, known or NothingKnown()
        self._account = Account(settings, used=used)
        catalog = load()
        self._regions = {
            name: Region(name, self._account, cluster, settings, catalog, now, self._known) for name in settings.regions
        }
        self._classes = Kept(settings.list_every, self._ask_classes, now)
        self._tidying: dict[str, asyncio.Task[None]] = {}  # region -> its sweep
        self._limits: dict[str, list[AccountQuota]] = {}  # region -> as they were told last
        self._unanswered: dict[str, Instant] = {}  # token -> when a launch of it got no answer
        self.ailing: dict[str, str] = {}  # region -> why it does not answer

    async def offers(self) -> list[Offer]:
        classes = await self._interruption_classes()
        answers = await self._each(self._regions.values(), lambda region: region.offers(classes))
        return [
            offer
            for region, answer in answers
            for offer in (region.last if isinstance(answer, ProviderError) else answer)
        ]

    async def launch(self, want: Launch) -> list[Node]:
        region = self._region(want.pool)
        limit = PREPARE_S + (GANG_S if want.count > 1 else 0)
        try:
            async with asyncio.timeout(limit):
                asked = await self._request(region, want)
            await region.launches.take()
            return await self._bought(region, want, asked)
        except (Auth, Capacity, Invalid, Price, Quota) as refusal:
            if want.count > 1 and unsettled(refusal):
                raise Throttled(refusal.code, str(refusal), scope=Scope.REGION) from refusal
            return await self._bought_before(region, want, refusal)
        except TimeoutError as error:
            raise Ambiguous("NoAnswer", f"{region.name} did not answer in {limit:.0f} s") from error
        except ProviderError as error:
            if type(error) is ProviderError:  # no answer to a question on the way: nothing was done, but who knows
                raise Ambiguous(error.code, str(error), scope=error.scope) from error
            raise

    async def nodes(self, tokens: Collection[str] | None = None) -> list[Node]:
        async def listed(region: Region) -> list[Node]:
            return await region.fleet.look(await region.zones(), self._now(), tokens)

        found: list[Node] = []
        for region, answer in await self._each(self._regions.values(), listed):
            if isinstance(answer, ProviderError):
                seen = region.fleet.listed_at
                if tokens is not None or seen is None or self._now() - seen > BLIND_MAX:
                    raise answer
                answer = region.fleet.remembered()
            elif tokens is None:
                self._tidy(region, answer)
            found += answer
        return found

    def _tidy(self, region: Region, nodes: list[Node]) -> None:
        """Take away the networks of gangs that are gone, beside everything else: nobody waits for it."""
        if not region.gangs.due() or region.name in self._tidying:
            return
        living = {node.token for node in nodes if node.status is not NodeStatus.GONE}
        task = asyncio.get_running_loop().create_task(self._tidied(region, living))
        self._tidying[region.name] = task

    async def _tidied(self, region: Region, living: Collection[str]) -> None:
        try:
            await region.gangs.sweep(living)
        except ProviderError as error:  # the next sweep comes back to it
            log.warning("aws.leftover", region=region.name, error=str(error))
        finally:
            self._tidying.pop(region.name, None)

    async def terminate(self, refs: Collection[NodeRef]) -> None:
        places = {compute.place_of(ref) for ref in refs if ref.provider == self.name}

        async def end(region: Region) -> None:
            names = [name for place, name in places if place in ("", region.name)]
            if names:
                await region.fleet.terminate(names)

        for _, answer in await self._each(self._regions.values(), end):
            if isinstance(answer, ProviderError):
                raise answer

    async def events(self) -> AsyncIterator[Notice]:
        async for notice in notices.events(self._account, tuple(self._regions), self._settings.queue, self._now):
            if notice.kind is NoticeKind.INTERRUPT and notice.ref is not None:
                region, name = compute.place_of(notice.ref)
                if region in self._regions:
                    self._regions[region].fleet.warned(name)
            yield notice

    def pasts(self) -> Sequence[str]:
        return tuple(self._regions) if "spot" in self._settings.markets else ()

    async def history(self, part: str, since: Instant, until: Instant) -> list[tuple[Pool, Quote]]:
        """Of one region. EC2 remembers 90 days."""
        region = self._regions[part]
        zones, shapes = await region.zones(), await region.shapes()
        return await prices.spot_history(self._account, part, zones, shapes, since, until)

    async def limits(self) -> list[AccountQuota]:
        """What this account may run of GPU shapes, in the regions that answer. Raises ProviderError when none does."""

        async def told(region: Region) -> list[AccountQuota]:
            return await quotas.limits(self._account, region.name, region.fleet.cluster, await region.vcpus())

        answers = await asyncio.gather(*map(told, self._regions.values()), return_exceptions=True)
        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        if any(not isinstance(error, ProviderError) for error in failed) or len(failed) == len(answers):
            raise failed[0]
        for name, answer in zip(self._regions, answers, strict=True):
            if not isinstance(answer, BaseException):
                self._limits[name] = answer
        return [limit for name in self._regions for limit in self._limits.get(name, ())]

    async def doctor(self) -> list[Finding]:
        first = next(iter(self._regions.values()))
        try:
            async with asyncio.timeout(PREPARE_S):
                shape = next(iter(await first.shapes()), "t3.micro")
        except (ProviderError, TimeoutError):
            shape = "t3.micro"
        return await examine(self._account, self._settings, first.fleet.cluster, shape, self._limits)

    async def commitments(self) -> list[Contract]:
        """Reserved instances and savings plans in force. Raises ProviderError."""
        return await reserve.commitments(self._account, tuple(self._regions))

    async def blocks(self, region: str, shape: str, count: int, hours: int) -> list[reserve.BlockOffer]:
        """Capacity blocks on sale. Raises ProviderError."""
        return await reserve.blocks(self._account, region, await self._regions[region].zones(), shape, count, hours)

    def _region(self, pool: Pool) -> Region:
        region = self._regions.get(pool.region)
        if pool.provider != self.name or region is None:
            raise Invalid("UnknownRegion", f"{pool.id}: the settings do not name {pool.region}", scope=Scope.POOL)
        return region

    async def _request(self, region: Region, want: Launch) -> dict[str, object]:
        """Raises Invalid for a pool that is not sold, Price above the limit, Capacity without a slot."""
        compute.check(want)
        pool = want.pool
        zone, kind = (await region.zones()).name(pool.zone), await region.kind(pool.shape)
        if zone is None or kind is None:
            raise Invalid("NotSold", f"{pool.id}: no such zone or shape", scope=Scope.POOL)
        held = None
        if pool.market is Market.RESERVED:
            held = await region.slot(pool, want.count)
            if held is None:
                raise Capacity("NoFreeSlot", f"{pool.id}: fewer than {want.count} free together", scope=Scope.POOL)
        elif pool.market is Market.ON_DEMAND and want.price_max is not None:
            listed = (await region.listed()).get(pool.shape)
            if listed is not None and listed.price > want.price_max:
                raise Price("ListPrice", f"{pool.id}: {listed.price} is over {want.price_max}", scope=Scope.POOL)
        return compute.request(
            want,
            cluster=region.fleet.cluster,
            zone=zone,
            kind=kind,
            held=held,
            settings=self._settings,
            gang=await region.gangs.network(want),
        )

    async def _bought(self, region: Region, want: Launch, asked: dict[str, object]) -> list[Node]:
        try:
            answer = await self._account.change("ec2", region.name, "run_instances", **asked)
        except Ambiguous:
            self._unanswered[want.token] = self._now()
            while len(self._unanswered) > UNANSWERED_MAX:
                del self._unanswered[next(iter(self._unanswered))]
            raise
        self._unanswered.pop(want.token, None)
        return region.fleet.told(answer["Instances"], await region.zones(), self._now())

    async def _bought_before(self, region: Region, want: Launch, refusal: ProviderError) -> list[Node]:
        """A refusal of a token that has bought already: what fills the quota, or the slot, are its own machines.

        Or settings have changed since, or the machines are dead by now. Raises the refusal where it has bought nothing,
        Ambiguous where that cannot be known yet: a list may be behind by seconds.
        """
        try:
            nodes = await region.fleet.look(await region.zones(), self._now(), [want.token])
        except ProviderError as error:
            if isinstance(refusal, Auth):
                raise refusal from error
            raise Ambiguous(refusal.code, f"{refusal}; then {error}", scope=Scope.REGION) from error
        if len(nodes) == want.count and all(node.pool == want.pool for node in nodes):
            return sorted(nodes, key=lambda node: node.index)
        if nodes:
            raise refusal
        if refusal.code == "IdempotentInstanceTerminated":
            raise Capacity(refusal.code, "bought and long gone", scope=Scope.REQUEST, cooldown=Millis(0)) from refusal
        if refusal.code == "IdempotentParameterMismatch":  # it has bought: a list that does not tell so yet is behind
            self._unanswered.setdefault(want.token, self._now())
        lately = self._now() - self._unanswered.get(want.token, Instant(-LISTED_WITHIN)) < LISTED_WITHIN
        if lately and refusal.code in _OURS:
            raise Ambiguous(refusal.code, f"{refusal}; an earlier call is not listed yet") from refusal
        raise refusal

    async def _each(
        self, regions: Collection[Region], ask: Callable[[Region], Awaitable[T]]
    ) -> list[tuple[Region, T | ProviderError]]:
        """Ask all at once. Raises when none of them has an answer."""

        async def one(region: Region) -> T | ProviderError:
            try:
                answer = await ask(region)
            except ProviderError as error:
                self.ailing[region.name] = str(error)
                return error
            self.ailing.pop(region.name, None)
            return answer

        answers = await asyncio.gather(*(one(region) for region in regions))
        failed = [answer for answer in answers if isinstance(answer, ProviderError)]
        if failed and len(failed) == len(answers):
            raise failed[0]
        return list(zip(regions, answers, strict=True))

    async def _interruption_classes(self) -> advice.Classes:
        """The public document's, and what was imported where it tells nothing."""
        try:
            return {**self._known.buckets(self.name), **await self._classes.get()}
        except ProviderError:
            return self._known.buckets(self.name)

    async def _ask_classes(self) -> advice.Classes:
        return await advice.advised(self._settings.advisor) if self._settings.advisor else {}
