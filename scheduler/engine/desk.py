"""The desk where agents call in: sessions, orders waiting for them, and their reports as messages to the core.

Orders are level-triggered: they live in memory only, and after a restart of the daemon the agent says
hello again, the core compares and orders anew. Everything that must not be lost is in the core's rows.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import ip_address
from typing import Any, Final

from dsched.scheduler.core.effect import TellStart
from dsched.scheduler.core.message import (
    AgentHello,
    CheckpointSaved,
    FactLost,
    FirstStep,
    Group,
    Message,
    NodeNoticed,
    RanksExited,
    RanksStarted,
    Refusal,
    RenewLease,
    SetupBroke,
)
from dsched.scheduler.core.snapshot import Intent, Progress
from dsched.scheduler.core.units import MINUTE, Instant, Millis
from dsched.scheduler.engine.loop import Loop
from dsched.scheduler.engine.orders import Scribe, Tell
from dsched.scheduler.engine.paces import Paces
from dsched.scheduler.log import log
from dsched.scheduler.wire.agent import (
    Fact,
    Hello,
    Lease,
    Order,
    Orders,
    Poll,
    Report,
    Telemetry,
    UserData,
    Welcome,
)
from dsched.scheduler.wire.session import Doubled, Forbidden, Stranger, Unknown

ORDERS_MAX: Final = 256  # waiting for one node; a node that takes none for so long is lost anyway
DRAIN: Final = Millis(10_000)  # before a lease's end, when the job is not known any more
HEARTBEAT: Final = Millis(10_000)
BOOTSTRAP: Final = Millis(15 * MINUTE)  # a launch's secret opens a first session for so long; GPU machines boot in ten
SILENT: Final = 2 * HEARTBEAT  # an agent that lives has polled within this
WAIT_MAX: Final = Millis(30_000)  # of one long poll; proxies cut longer ones


@dataclass(slots=True)
class Seat:
    """One agent's session."""

    node: str
    session: str
    boot: str
    until: int = 0  # boot clock: its lease, granted for certain by an answer that is durable; rows may be ahead
    seq: int = 0
    address: str = ""  # where its peers in the cloud find it, as its metadata service told
    orders: list[Order] = field(default_factory=list)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    reported: int = 0
    telemetry: Telemetry | None = None


class Desk:
    """Implements the API's Desk. `key` signs bootstrap secrets, nodes' keys and sessions, so none has to be stored.

    `address` and `pin`: where nodes call in, and the SHA-256 of the certificate that answers there, if one does.
    `checkpoints`: from a job and a provider to the place where it saves there. `probed`: providers whose GPUs are real.
    `shelf`: from a provider and a bundle's hash to a link near its machines, or "".
    """

    def __init__(
        self,
        loop: Loop,
        key: bytes,
        *,
        address: str,
        checkpoints: Callable[[str, str], str],
        pin: str = "",
        probed: Collection[str] = (),
        shelf: Callable[[str, str], str] = lambda _provider, _sha256: "",
    ) -> None:
        self._loop, self._key = loop, key
        self._address, self._pin = address, pin
        self._scribe = Scribe(lambda: loop.state, self._address_of, checkpoints, probed, shelf)
        self._seats: dict[str, Seat] = {}
        self._paces = Paces()
        self._shared: set[str] = set()  # launches on whose machines ranks have begun: their secret is known to users
        self._begun = loop.clock.now().wall  # who was heard before this daemon's start may be about to call again

    # -- what launches carry ---------------------------------------------------------------------------------------

    def user_data(self, intent: Intent) -> UserData:
        """The same bytes for every repeat of the launch."""
        if job := self._loop.state.jobs.get(intent.job):
            self._scribe.bundle_link(intent.provider, job)  # there when the machines are
        data = UserData(
            cluster=self._loop.state.cluster,
            token=intent.id,
            daemon=self._address,
            secret=self.secret(intent.id, Instant(intent.made.wall + BOOTSTRAP)),
            lease_until=intent.lease_until,
            drain_ms=self._drain(intent),
            heartbeat_ms=HEARTBEAT,
        )
        return UserData(**data, pin=self._pin) if self._pin else data

    def secret(self, token: str, until: Instant) -> str:
        """What opens the first session of a launch's nodes: its own end, and our signature under both."""
        return f"{until}.{self._sign('launch', token, str(until))}"

    def _drain(self, intent: Intent) -> int:
        job = self._loop.state.jobs.get(intent.job)
        return job.spec.drain if job else DRAIN

    def _sign(self, *parts: str) -> str:
        return hmac.new(self._key, "\0".join(parts).encode(), sha256).hexdigest()

    def _address_of(self, node: str) -> str:
        seat = self._seats.get(node)
        return seat.address if seat else ""

    # -- calls of agents -------------------------------------------------------------------------------------------

    async def hello(self, body: Hello) -> Welcome:
        name = body["node"]
        self._admit(name, body["secret"], body["boot"])
        for gone in self._seats.keys() - self._loop.state.nodes.keys():
            del self._seats[gone]
        if self._shared:
            self._shared &= {node.token for node in self._loop.state.nodes.values()}
        self._refuse_double(name, body["boot"])
        seat = self._seats[name] = Seat(name, self._sign("session", name, body["boot"]), body["boot"])
        seat.address = _address(body["metadata"].get("address", ""))
        self._loop.state.heard[name] = self._loop.clock.now().wall
        groups = tuple(
            Group(job=g["job"], generation=g["generation"], state=g["state"], exits=g["exits"]) for g in body["running"]
        )
        asked = self._loop.clock.boot()
        left = await self._ask(AgentHello(node=name, boot=body["boot"], running=groups))
        seat.until = asked + left
        await self._renew(seat)
        return Welcome(session=seat.session, key=self._sign("node", name), lease_ms=seat.until - asked, seq=0)

    def _admit(self, name: str, secret: str, boot: str) -> None:
        """By the node's own key; or by the launch's secret, in its time and for the node's first start alone.

        Whoever runs on a machine, or may describe it, can read its user-data: once used, that is worth nothing. All
        machines of a launch carry the same: once ranks have begun on one of them, it admits none of the others.
        """
        own = hmac.compare_digest(secret, self._sign("node", name))
        until, _, signature = secret.partition(".")
        if not own and not hmac.compare_digest(signature, self._sign("launch", name.rpartition(".")[0], until)):
            raise Forbidden(f"wrong secret for {name}")
        node = self._loop.state.nodes.get(name)
        if node is None:
            raise Unknown(name)
        if own:
            return
        if node.boot not in ("", boot):
            raise Forbidden(f"the secret of {name} has been used")
        if not node.boot and self._known_to_ranks(node.token):
            raise Forbidden(f"the secret of {name} is known to the ranks beside it")
        if self._loop.clock.now().wall > int(until):
            raise Forbidden(f"the secret of {name} has expired")

    def _known_to_ranks(self, token: str) -> bool:
        """Whether ranks have run on a machine of this launch: on a living one, or on any since this daemon's start."""
        return token in self._shared or any(n.generation for n in self._loop.state.nodes.values() if n.token == token)

    def _refuse_double(self, name: str, boot: str) -> None:
        """Whoever runs on a node may find its key there: it buys no second session beside a living one."""
        seat, state = self._seats.get(name), self._loop.state
        first = seat.boot if seat else state.nodes[name].boot
        wait = state.heard.get(name, self._begun) + SILENT - self._loop.clock.now().wall
        if first not in ("", boot) and wait > 0:
            log.warning("agent.doubled", node=name, wait_ms=wait)
            raise Doubled(f"another agent of {name} was heard less than {SILENT // 1_000} s ago", -(-wait // 1_000))

    async def poll(self, body: Poll) -> Orders:
        seat, asked = self._seat(body["node"], body["session"]), self._loop.clock.boot()
        await self._renew(seat)
        seat.orders = [order for order in seat.orders if order["seq"] > body["after"]]
        if not seat.orders:
            seat.wake.clear()
            try:
                async with asyncio.timeout(min(body["wait_ms"], WAIT_MAX) / 1000):
                    await seat.wake.wait()
            except TimeoutError:
                await self._renew(seat)
        if self._seats.get(seat.node) is not seat:
            raise Stranger(seat.node)
        return Orders(lease_ms=seat.until - asked, orders=seat.orders)

    async def report(self, body: Report) -> Lease:
        seat, asked = self._seat(body["node"], body["session"]), self._loop.clock.boot()
        if body["id"] > seat.reported:
            messages = [m for fact in body["facts"] if (m := self._message(seat, fact)) is not None]
            await asyncio.gather(*(self._ask(message) for message in messages))
            seat.reported = body["id"]
        await self._renew(seat)
        return Lease(lease_ms=seat.until - asked)

    def check(self, session: str, node: str = "") -> str:
        for seat in self._seats.values() if not node else filter(None, [self._seats.get(node)]):
            if hmac.compare_digest(seat.session, session):
                return seat.node
        raise Stranger(node)

    def telemetry(self, node: str) -> Telemetry | None:
        seat = self._seats.get(node)
        return seat.telemetry if seat else None

    def _seat(self, node: str, session: str) -> Seat:
        if node not in self._loop.state.nodes:
            self._seats.pop(node, None)
            raise Unknown(node)
        seat = self._seats.get(node)
        if seat is None or not hmac.compare_digest(seat.session, session):
            raise Stranger(node)
        self._loop.state.heard[node] = self._loop.clock.now().wall
        return seat

    async def _ask(self, message: Message) -> Any:
        try:
            return await self._loop.send(message)
        except Refusal as refusal:
            raise Unknown(refusal.message) from refusal

    async def _renew(self, seat: Seat) -> None:
        """Renew the lease when half of it is over, by the clock that nobody sets; known here once it is durable."""
        node, asked = self._loop.state.nodes.get(seat.node), self._loop.clock.boot()
        if node is None:
            raise Unknown(seat.node)
        if seat.until - asked <= self._loop.policy.lease // 2 and node.notice is None and not node.leaving:
            seat.until = max(seat.until, asked + await self._ask(RenewLease(node=seat.node)))

    # -- reports ---------------------------------------------------------------------------------------------------

    def _message(self, seat: Seat, fact: Fact) -> Message | None:
        node = seat.node
        match fact["kind"]:
            case "started":
                return RanksStarted(node=node, job=fact["job"], generation=fact["generation"])
            case "exited":
                return RanksExited(
                    node=node,
                    job=fact["job"],
                    generation=fact["generation"],
                    exits=fact["exits"],
                    drained=fact["drained"],
                    hung=fact["hung"],
                    tail=fact["tail"],
                )
            case "setup-failed":
                return SetupBroke(
                    node=node,
                    job=fact["job"],
                    generation=fact["generation"],
                    command=fact["command"],
                    code=fact["code"],
                    tail=fact["tail"],
                    machine=fact.get("machine", False),
                )
            case "saved":
                return CheckpointSaved(
                    node=node,
                    job=fact["job"],
                    generation=fact["generation"],
                    step=fact["step"],
                    uri=fact["uri"],
                    write=Millis(int(fact.get("write_ms", 0))),
                    stall=_millis(fact.get("stall_ms", fact.get("write_ms"))),
                    size=max(0, int(fact.get("bytes", 0))),
                    fallback=fact.get("fallback", ""),
                )
            case "noticed":
                if fact["what"] != "interrupt":
                    return None
                return NodeNoticed(
                    node=node, deadline=Instant(fact["deadline"]), source="metadata service", by_node=True
                )
            case "progress":
                return self._progress(node, fact)
            case "dropped":
                return FactLost(node=node, what=fact["fact"][:40], job=fact["job"][:128], error=fact["error"])
            case "telemetry":
                seat.telemetry = fact
                return None

    def _progress(self, node: str, fact: Any) -> Message | None:
        state = self._loop.state
        job = state.jobs.get(fact["job"])
        if job is None or job.generation != fact["generation"]:
            return None
        last = state.progress.setdefault(job.id, Progress())
        last.step = fact["step"]
        last.steps = fact.get("steps", last.steps)
        last.loss = fact.get("loss", last.loss)
        last.tokens_per_s = fact.get("tokens_per_s", last.tokens_per_s)
        last.step_ms = fact.get("step_ms", last.step_ms)
        last.at = Instant(fact["at"])
        if fact.get("first"):
            return FirstStep(node=node, job=job.id, generation=job.generation, step=fact["step"])
        return self._paces.told(job, fact) if job.spec.need.model is not None else None

    # -- orders ----------------------------------------------------------------------------------------------------

    def tell(self, effect: Tell) -> None:
        """Queue an order; an agent that is not here is told by the comparison at its next hello."""
        seat = self._seats.get(effect.node)
        if seat is None or len(seat.orders) >= ORDERS_MAX:
            return
        order = self._scribe.order(effect, seat.seq + 1)
        if isinstance(effect, TellStart):
            self._shared.add(effect.node.rpartition(".")[0])
        if order is not None:
            seat.seq += 1
            seat.orders.append(order)
            seat.wake.set()


def _address(told: str) -> str:
    """It goes into the environment of ranks: an address, or nothing."""
    try:
        return str(ip_address(told))
    except ValueError:
        return ""


def _millis(told: float | None) -> Millis | None:
    return None if told is None else Millis(max(0, round(told)))
