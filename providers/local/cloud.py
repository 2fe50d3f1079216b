"""The embedded cloud: sells machines on a market, takes them back, remembers. It journals every change first."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Collection
from typing import Final

from dsched.providers.base import (
    Capacity,
    EndReason,
    Invalid,
    Launch,
    Node,
    NodeRef,
    Notice,
    NoticeKind,
    Price,
    Quota,
    Scope,
)
from dsched.providers.local.clock import MarketClock, wall_now
from dsched.providers.local.fleet import Machine, fold, machines_record, sale_record, same
from dsched.providers.local.hints import Hints
from dsched.providers.local.host import AGAIN_S, Host
from dsched.providers.local.journal import Journal, Record
from dsched.providers.local.market import PROVIDER, LocalMarket
from dsched.providers.local.options import Options
from dsched.providers.local.tree import NoTree
from dsched.providers.local.zone import NOTICE
from dsched.scheduler.core.market import Market, Offer, Pool
from dsched.scheduler.core.units import Instant, Millis, Moment

TOKEN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")  # it becomes the name of a folder
COUNT_MAX: Final = 64  # nodes of one launch
USER_DATA_MAX: Final = 65_536  # bytes; AWS takes 16 KiB, Google 256 KiB
RECORDS_MAX: Final = 50_000  # of the journal before it is made short again: about 6 MB, mostly renewals
KEPT: Final = ("world", "price", "capacity", "script")  # records that are not the fleet's
TIMER_S_MAX: Final = 30.0  # a timer looks at the wall clock again at least this often, in case it jumped

log = logging.getLogger(__name__)


class Cloud:
    def __init__(
        self,
        options: Options,
        market: LocalMarket,
        clock: MarketClock,
        journal: Journal,
        records: list[Record],
    ) -> None:
        """As `records` left it; the journal is made as short as that allows."""
        self.options = options
        self.market = market
        self.clock = clock
        self.fleet = fold(records)
        self.hints = Hints()
        self.quota = options.max_nodes
        self.changed = asyncio.Event()  # something that the market's loop should look at
        self._journal = journal
        self._head = [record for record in records if record["kind"] in KEPT]  # what the fleet does not hold
        self._written = 0
        self._shorten()
        self._host: Host | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._launching: dict[str, asyncio.Task[list[Node]]] = {}

    @property
    def host(self) -> Host:
        assert self._host is not None, "open() comes first"
        return self._host

    async def open(self, host: Host) -> None:
        """Take over every machine of the journal; those that died meanwhile are gone now."""
        self._host = host
        await host.forget_others({machine.name for machine in self.fleet.alive()})
        for machine in list(self.fleet.alive()):
            if not await host.adopt(machine, self.fleet.sales[machine.sale], self._cloud_of(machine.pool)):
                self.ended(machine.id, None)
            elif machine.ending is not None:
                host.kill(machine.id)
            else:
                self._arm(machine.id)

    def log(self, record: Record) -> None:
        """The only door: durable first, then in force."""
        self._journal.write(record)
        self.fleet.apply(record)
        self._written += 1
        if record["kind"] in KEPT:
            self._head.append(record)
        if self._written >= RECORDS_MAX and not self._launching:
            self._shorten()

    # What the provider port asks.

    def now(self) -> Moment:
        return self.clock.moment()

    def offers(self) -> list[Offer]:
        now = self.now()
        return self.market.offers(self.clock.age(now.wall), now.market, self.fleet.used())

    def nodes(self, tokens: Collection[str] | None) -> list[Node]:
        wanted = None if tokens is None else set(tokens)
        return [one.node() for one in self.fleet.machines.values() if wanted is None or one.sale in wanted]

    async def launch(self, want: Launch) -> list[Node]:
        """All or nothing, idempotent on the token, also while the first call is still under way."""
        if known := self.fleet.sales.get(want.token):
            if not same(known, want):
                raise Invalid("IdempotentParameterMismatch", f"token {want.token} was used for another request")
            if under_way := self._launching.get(want.token):
                return await asyncio.shield(under_way)
            return [machine.node() for machine in self.fleet.of(want.token)]
        self._admit(want)
        self.log(sale_record(want))
        task = asyncio.get_running_loop().create_task(self._deliver(want))
        self._launching[want.token] = task
        task.add_done_callback(lambda _: self._launching.pop(want.token, None))
        return await asyncio.shield(task)

    def terminate(self, ids: Collection[str]) -> None:
        for one in ids:
            self.end(one, EndReason.ASKED)

    def renew(self, ids: Collection[str], until: Instant) -> None:
        later = [one for one in ids if (found := self._living(one)) is not None and found.lease_until < until]
        if later:
            self.log({"kind": "lease", "ids": later, "until": until})

    # What the market and the levers do.

    def end(self, one: str, reason: EndReason) -> None:
        """Kill it; the first reason stays."""
        machine = self._living(one)
        if machine is not None and machine.ending is None:
            self.log({"kind": "ending", "id": one, "by": reason.value})
            log.info("machine.ending id=%s by=%s", one, reason.value)
            self.host.kill(one)

    def interrupt(self, one: str, *, notice: bool, lead: Millis | None = None) -> None:
        """Take a machine back: with the cloud's notice (or `lead`, wall), or at once."""
        machine = self._living(one)
        if machine is None or machine.ending is not None or machine.notice is not None:
            return
        if not notice:
            self.end(one, EndReason.INTERRUPTED)
            return
        deadline = Instant(wall_now() + (self.notice(self._cloud_of(machine.pool)) if lead is None else lead))
        self.log({"kind": "notice", "id": one, "deadline": deadline})
        log.info("machine.notice id=%s deadline=%d", one, deadline)
        if metadata := self.host.metadata(one):
            metadata.interrupt(deadline)
        self.hints.tell(Notice(kind=NoticeKind.INTERRUPT, ref=NodeRef(PROVIDER, one), deadline=deadline))
        self._arm(one)

    def rebalance(self, one: str) -> None:
        """Tell that it may be taken soon."""
        machine = self._living(one)
        if machine is not None and machine.rebalance is None:
            at = wall_now()
            self.log({"kind": "rebalance", "id": one, "at": at})
            if metadata := self.host.metadata(one):
                metadata.rebalance(at)
            self.hints.tell(Notice(kind=NoticeKind.REBALANCE, ref=NodeRef(PROVIDER, one)))

    def take_back(self) -> None:
        """Interrupt what spot pools do not carry any more; some without notice."""
        age = self.clock.age(wall_now())
        by_pool: dict[Pool, list[Machine]] = {}
        for machine in self.fleet.alive():
            if machine.pool.market is Market.SPOT and machine.notice is None and machine.ending is None:
                by_pool.setdefault(machine.pool, []).append(machine)
        for pool, machines in by_pool.items():
            for one in victims([m.id for m in machines], self.market.capacity(pool, age), self.options.seed):
                self.interrupt(one, notice=not silent(one, self.options))

    def notice(self, cloud: str) -> Millis:
        """Wall time between a notice and the end, in zones of this cloud."""
        return Millis(round(NOTICE[cloud] / self.options.notice_scale))

    def ended(self, one: str, code: int | None) -> None:
        """All of it is dead: by whom, and from when on it costs nothing."""
        machine, now = self.fleet.machines[one], self.now()
        by = machine.ending or _own_end(machine, code, now.wall)
        self.log({"kind": "gone", "id": one, "by": by.value, "market": now.market, "wall": now.wall})
        log.info("machine.gone id=%s by=%s code=%s", one, by.value, code)
        if timer := self._timers.pop(one, None):
            timer.cancel()
        self.hints.tell(Notice(kind=NoticeKind.GONE, ref=NodeRef(PROVIDER, one)))
        self.changed.set()

    async def end_all(self) -> None:
        """For the end of the cloud itself: returns when nothing is left."""
        for machine in list(self.fleet.alive()):
            self.end(machine.id, EndReason.ASKED)
        while any(self.fleet.alive()):
            self.changed.clear()
            await self.changed.wait()
        await self.host.settle()

    def _shorten(self) -> None:
        """Write down only what is still of use. A launch without machines was cut off by a crash and left nothing."""
        records = [*self._head, *self.fleet.records(wall_now())]
        self._journal.rewrite(records)
        self.fleet, self._written = fold(records), 0

    def _admit(self, want: Launch) -> None:
        """Raise what speaks against it, before anything is written."""
        listing = self.market.listings.get(want.pool)
        if listing is None:
            raise Invalid("UnknownPool", f"{want.pool.id} is not sold here")
        if not TOKEN.fullmatch(want.token):
            raise Invalid("InvalidToken", "1 to 120 letters, digits, dots, dashes and underscores")
        if not 1 <= want.count <= COUNT_MAX:
            raise Invalid("InvalidCount", f"{want.count} nodes; 1 to {COUNT_MAX} in one launch")
        if len(want.user_data.encode()) > USER_DATA_MAX:
            raise Invalid("InvalidUserData", f"more than {USER_DATA_MAX} bytes")
        now = self.now()
        if want.lease_until <= now.wall:
            raise Invalid("LeaseOver", "the lease ends before the launch")
        used, age = self.fleet.used(), self.clock.age(now.wall)
        pending = [sale for token, sale in self.fleet.sales.items() if not self.fleet.started(token)]
        total = used.total() + sum(sale.count for sale in pending)
        if total + want.count > self.quota:
            raise Quota("MaxNodesExceeded", f"{total} of {self.quota} nodes in use", scope=Scope.ACCOUNT)
        taken = used[want.pool] + sum(sale.count for sale in pending if sale.pool == want.pool)
        if taken + want.count > self.market.capacity(want.pool, age):
            raise Capacity("InsufficientInstanceCapacity", f"{want.pool.id} is sold out", scope=Scope.POOL)
        price = self.market.price(want.pool, age)
        if want.price_max is not None and price > want.price_max:
            raise Price("MaxPriceTooLow", f"{price} > {want.price_max} micro-dollars/h", scope=Scope.POOL)

    async def _deliver(self, want: Launch) -> list[Node]:
        try:
            machines = await self.host.raise_up(want, self._cloud_of(want.pool), self.now().market)
        except NoTree as problem:
            self.log({"kind": "void", "token": want.token})
            raise Capacity("HostExhausted", str(problem), scope=Scope.POOL) from problem
        try:
            self.log(machines_record(machines))
        except OSError:  # a full disk: as if it had never been asked for; the token is free again
            await self.host.take_down(want)
            del self.fleet.sales[want.token]
            raise
        for machine in machines:
            self.host.let_go(machine)
            self._arm(machine.id)
        self.changed.set()
        return [machine.node() for machine in machines]

    def _arm(self, one: str) -> None:
        """Look at it again when its lease or its notice ends."""
        if timer := self._timers.pop(one, None):
            timer.cancel()
        machine = self._living(one)
        if machine is None or machine.ending is not None:
            return
        now = wall_now()
        due = machine.lease_until if machine.notice is None else min(machine.lease_until, machine.notice)
        delay = min((due - now) / 1000, TIMER_S_MAX)
        if delay <= 0:
            taken = machine.notice is not None and now >= machine.notice
            try:
                self.end(one, EndReason.INTERRUPTED if taken else EndReason.LEASE)
                return
            except OSError as problem:  # a full disk: the end comes first, its record as soon as there is room
                log.error("machine.unwritten id=%s problem=%s", one, problem)
                self.host.kill(one)
                delay = AGAIN_S
        self._timers[one] = asyncio.get_running_loop().call_later(delay, self._arm, one)

    def _living(self, one: str) -> Machine | None:
        machine = self.fleet.machines.get(one)
        return machine if machine is not None and machine.alive else None

    def _cloud_of(self, pool: Pool) -> str:
        """Whose ways the pool's zone has; a pool that is not sold any more keeps the form of its ids."""
        listing = self.market.listings.get(pool)
        return listing.cloud if listing else ("gcp" if pool.zone.startswith(pool.region) else "aws")


def victims(running: list[str], capacity: int, seed: int) -> list[str]:
    """Whom to take when the pool carries `capacity`: drawn, but always the same ones for a seed."""
    rng = random.Random(f"{seed}/{'/'.join(sorted(running))}")  # noqa: S311 - a market, not a secret
    return rng.sample(sorted(running), max(0, len(running) - capacity))


def silent(one: str, options: Options) -> bool:
    """This machine's interruption comes without notice."""
    return random.Random(f"{options.seed}/{one}/silent").random() < options.silent_share  # noqa: S311


def _own_end(machine: Machine, code: int | None, wall: Instant) -> EndReason:
    """Why a machine ended that nobody killed."""
    if wall >= machine.lease_until:
        return EndReason.LEASE
    if machine.notice is not None:
        return EndReason.INTERRUPTED
    return EndReason.ASKED if code == 0 else EndReason.FAILED
