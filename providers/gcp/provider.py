"""Google Cloud behind the provider port. Blocking calls run in threads of its own; nothing is decided here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import structlog

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
    Notice,
    Price,
    ProviderError,
    Quota,
    Scope,
)
from dsched.providers.gcp import compute, names
from dsched.providers.gcp.client import Client
from dsched.providers.gcp.doctor import examine
from dsched.providers.gcp.errors import ALREADY, failed
from dsched.providers.gcp.gang import Gangs
from dsched.providers.gcp.market import PriceBoard
from dsched.providers.gcp.notices import News
from dsched.providers.gcp.offers import CHIPS, fitting, past
from dsched.providers.gcp.prices import Usage
from dsched.providers.gcp.quotas import quotas
from dsched.providers.gcp.roll import Roll, node_of, ref_of
from dsched.providers.gcp.rows import Held, Machine, Progress
from dsched.providers.gcp.settings import Settings
from dsched.scheduler.core.commitment import CHIP, Contract
from dsched.scheduler.core.market import Market, Offer, Pool, Quote
from dsched.scheduler.core.quota import Quota as AccountQuota
from dsched.scheduler.core.units import HOUR, Instant, MicroUsdPerHour, Millis

T = TypeVar("T")

THREADS: Final = 32  # as many calls as the daemon makes at a time; most only wait for the service
UNUSED: Final = Held(name="unused", zone="", shape="", count=0, used=0, specific=True, until=None)
WAIT_S: Final = 20.0  # for an operation; within the daemon's own limit of a call

log = structlog.get_logger()


class GcpProvider:
    """Provider over Compute Engine. `cluster` labels what is ours; `credentials` None: those of the host."""

    name = names.PROVIDER
    history_span = Millis(90 * 24 * HOUR)  # the service tells all that it knows in one answer

    def __init__(
        self, settings: Settings, cluster: str, credentials: Any = None, *, known: Known | None = None
    ) -> None:
        """`known`: prices for what the price list does not tell."""
        self.settings = settings
        self.client = Client(settings, credentials)
        self._cluster = cluster
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="gcp")
        self._roll = Roll()
        self._gangs = Gangs(self.client, self._run, settings, cluster)
        self._board = PriceBoard(settings, self.client, self._run, known)
        self._limits: list[AccountQuota] = []  # as they were told last
        self._longer = True  # until the service refuses to give a longer notice
        self._clearing: dict[NodeRef, asyncio.Task[None]] = {}  # disks of machines that are off

    @property
    def ailing(self) -> dict[str, str]:
        return {"price list": self._board.error} if self._board.error else {}

    async def offers(self) -> list[Offer]:
        return await self._board.offers(compute.notice_of(self.settings, longer=self._longer))

    async def launch(self, want: Launch) -> list[Node]:
        machines = [names.name(want, index) for index in range(want.count)]
        await self._made(want, await self._admitted(want))
        return [await self._launched(want, machine) for machine in machines]

    async def nodes(self, tokens: Collection[str] | None = None) -> list[Node]:
        machines, blind = await self._run(self.client.machines, self._cluster)
        now, happened = _now(), None
        self._roll.bear(blind, now)
        if self._roll.puzzled(machines, blind):
            happened = await self._run(self.client.happenings, self._roll.since(now))
        nodes = self._roll.update(machines, happened, now, blind)
        self._clear(machines)
        self._gangs.tidy({node.token for node in nodes if node.status is not NodeStatus.GONE}, now)
        return [node for node in nodes if tokens is None or node.token in tokens]

    async def terminate(self, refs: Collection[NodeRef]) -> None:
        """Only what carries our label: a name alone proves nothing."""
        wanted = {ref for ref in refs if ref.provider == self.name}
        if any(self._roll.known(ref) is None for ref in wanted):
            await self.nodes()
        known = [node for ref in wanted if (node := self._roll.known(ref)) is not None]
        alive = [node.ref for node in known if node.status is not NodeStatus.GONE]
        outcomes = await asyncio.gather(*(self._delete(ref) for ref in alive), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def events(self) -> AsyncIterator[Notice]:
        news, since, gap = News(_now(), self.settings), _now(), False
        while True:
            try:
                happened = await self._run(self.client.happenings, news.since(since))
            except ProviderError as error:
                log.warning("gcp.hints", error=str(error))
                gap = True
            else:
                since = _now()
                for notice in [*news.gap(gap), *news.read(happened, longer=self._longer)]:
                    yield notice
                gap = False
            await asyncio.sleep(self.settings.look_seconds)

    async def limits(self) -> list[AccountQuota]:
        """What the project may run of accelerators in each region, less what others use. Raises ProviderError."""
        found = await asyncio.gather(*(self._run(self.client.limits, where) for where in self.settings.regions))
        rows = [limit for limits in found for limit in limits]
        self._limits = quotas(rows, self._roll.nodes(), (await self._board.board()).gpus())
        return self._limits

    async def commitments(self) -> list[Contract]:
        """Committed use of accelerators in force. Raises ProviderError."""
        return [
            Contract(
                provider=self.name,
                kind=f"cud-{one.years}y",
                id=one.name,
                region=one.region,
                covers=CHIP + CHIPS.get(one.chip, one.chip),
                count=one.count,
                until=one.until,
            )
            for one in await self._run(self.client.commitments)
        ]

    async def doctor(self) -> list[Finding]:
        return await examine(self.settings, self.client, self._run, self._limits)

    def pasts(self) -> Sequence[str]:
        return self.settings.regions if self.settings.advice else ()

    async def history(self, part: str, since: Instant, until: Instant) -> list[tuple[Pool, Quote]]:
        """Of one region: a question per zone and shape, one after the other."""
        board = await self._board.board()
        spots = [kind for kind in board.kinds if names.region(kind.zone) == part]
        spots = [kind for kind in spots if board.price(kind.zone, kind.name, Usage.SPOT) is not None]
        steps: list[tuple[Pool, Quote]] = []
        for kind in spots:
            pool = Pool(self.name, part, kind.zone, kind.name, Market.SPOT)
            told = await self._run(self.client.spot_prices, kind.zone, kind.name)
            steps += [(pool, quote) for quote in past(told, since, until)]
        return sorted(steps, key=lambda step: (step[1].at, step[0]))

    async def listed(self, pool: Pool, usage: Usage) -> MicroUsdPerHour | None:
        """The list price of a pool's machine however it is bought, commitments too; None: not known."""
        return (await self._board.board()).price(pool.zone, pool.shape, usage)

    async def advised(self) -> None:
        """Wait for the round of advice that is under way."""
        await self._board.advised()

    async def close(self) -> None:
        """Let go of threads and connections; machines stay as they are."""
        await self._board.close()
        for task in [*self._clearing.values(), *filter(None, [self._gangs.tidying])]:
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self.client.close)

    # Making machines.

    async def _admitted(self, want: Launch) -> Held | None:
        """The reservation to use, if any. Raises Price or Capacity, not for a token that has its machine already."""
        try:
            await self._affordable(want)
            return await self._slot(want)
        except (Price, Capacity):
            if await self._exists(want):
                return UNUSED
            raise

    async def _affordable(self, want: Launch) -> None:
        """Compute Engine takes no limit, so our newest prices are asked."""
        if want.price_max is None or want.pool.market is Market.RESERVED:
            return
        price = await self._board.price(want.pool)
        if price is not None and price > want.price_max:
            raise Price("PriceTooHigh", f"{price} > {want.price_max}", scope=Scope.POOL)

    async def _slot(self, want: Launch) -> Held | None:
        if want.pool.market is not Market.RESERVED:
            return None
        held = await self._run(self.client.reservations)
        found = fitting(held, want.pool.zone, want.pool.shape, want.count)
        if found is None:
            raise Capacity("NoReservation", f"none has room for {want.count} x {want.pool.id}", scope=Scope.POOL)
        return found

    async def _exists(self, want: Launch) -> bool:
        """An earlier call of this token got through."""
        try:
            await self._run(self.client.get, want.pool.zone, names.name(want, 0))
        except Invalid as missing:
            if missing.code == "notFound":
                return False
            raise
        return True

    async def _made(self, want: Launch, reservation: Held | None) -> None:
        """Asked for and accepted and done, or an error that says what next."""
        await self._gangs.open(want)
        try:
            progress = await self._accepted(want, reservation)
        except Invalid as refusal:
            if not self._longer or compute.NOTICE_FIELD not in str(refusal):
                raise
            log.warning("gcp.notice", error=str(refusal), remedy="gcp.notice_seconds is left out from now on")
            self._longer = False
            progress = await self._accepted(want, reservation)
        if progress is None:
            return
        if not progress.done:
            progress = await self._run(self.client.wait, progress, WAIT_S)
        if progress.errors:
            raise failed(progress.errors)
        if not progress.done:
            raise Ambiguous("StillUnderWay", f"{progress.operation} after {WAIT_S:.0f} s")

    async def _accepted(self, want: Launch, reservation: Held | None) -> Progress | None:
        """None: refused, but not the first time. The quota that a repeat breaks may be used up by its own machines."""
        try:
            return await self._asked(want, reservation)
        except (Auth, Capacity, Invalid, Quota) as refusal:
            if await self._exists(want):
                return None
            if isinstance(refusal, Invalid) and refusal.code in ALREADY:
                raise Ambiguous(refusal.code, "and yet it is not there any more") from refusal
            raise

    async def _asked(self, want: Launch, reservation: Held | None) -> Progress:
        body = compute.machine if want.count == 1 else compute.gang
        call = self.client.insert if want.count == 1 else self.client.bulk_insert
        made = body(want, self.settings, self._cluster, longer=self._longer, reservation=reservation)
        return await self._run(call, want.pool.zone, made, names.request_id(want.token))

    async def _launched(self, want: Launch, name: str) -> Node:
        """Read back by its name, which the service knows at once; lists may be late."""
        try:
            machine = await self._run(self.client.get, want.pool.zone, name)
        except Invalid as missing:
            if missing.code != "notFound":
                raise
            return await self._dead(want, ref_of(want.pool.zone, name))
        if machine.labels.get(names.WANT) != names.digest(want):
            raise Invalid("IdempotentParameterMismatch", f"token {want.token} was used for another request")
        node = node_of(machine)
        if node is None:
            raise Invalid("ForeignMachine", f"{name} has our name and not our label")
        if node.status is NodeStatus.GONE:
            return await self._dead(want, node.ref)
        self._roll.remember(node)
        return node

    async def _dead(self, want: Launch, ref: NodeRef) -> Node:
        """It was made and has ended since; how, operations tell."""
        for node in await self.nodes([want.token]):
            if node.ref == ref:
                return node
        raise Ambiguous("NotFound", f"{ref.id} was made and is neither listed nor told to have ended")

    async def _delete(self, ref: NodeRef) -> None:
        zone, _, machine = ref.id.partition("/")
        try:
            await self._run(self.client.delete, zone, machine)
        except (Invalid, Ambiguous) as error:
            if error.code not in ("notFound", "resourceNotReady"):  # gone, or going
                raise

    def _clear(self, machines: Sequence[Machine]) -> None:
        """A machine that is off bills its disk, and keeps its name, until it is deleted."""
        for machine in machines:
            node = node_of(machine)
            if node is not None and node.status is NodeStatus.GONE and node.ref not in self._clearing:
                task = asyncio.get_running_loop().create_task(self._cleared(node.ref))
                self._clearing[node.ref] = task

    async def _cleared(self, ref: NodeRef) -> None:
        try:
            await self._delete(ref)
        except ProviderError as error:
            log.warning("gcp.leftover", machine=ref.id, error=str(error))
        finally:
            self._clearing.pop(ref, None)

    async def _run(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)


def _now() -> Instant:
    return Instant(time.time_ns() // 1_000_000)
