"""The provider port: what a cloud must do for us. Errors are typed by what happens next, not by what the cloud said.

    ProviderError
      Capacity    sold out: cool the pool down, plan again
      Quota       our limit, not theirs: avoid the scope, tell the operator
      Price       the market moved above our limit: plan again
      Throttled   too many calls: same request later
      Auth        halt the provider, tell
      Invalid     our bug or a retired shape: never again
      Ambiguous   no answer, it may have happened: repeat with the same token, or ask nodes()

Adapters translate; nothing above them sees an exception of a cloud's own library. The cloud's words
stay in `__cause__`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal, NamedTuple, Protocol, runtime_checkable

from dsched.scheduler.core.commitment import Contract
from dsched.scheduler.core.market import Offer, Pool, Quote
from dsched.scheduler.core.quota import Quota as AccountQuota
from dsched.scheduler.core.units import Instant, MicroUsdPerHour, Millis, Moment


class NodeStatus(StrEnum):
    """What the provider says of a machine."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    GONE = "gone"


class EndReason(StrEnum):
    ASKED = "asked"  # terminate()
    INTERRUPTED = "interrupted"  # the cloud took it back
    LEASE = "lease"  # the dead-man's switch
    FAILED = "failed"  # it broke, or was killed from outside


class NoticeKind(StrEnum):
    INTERRUPT = "interrupt"  # it will be taken at `deadline`
    REBALANCE = "rebalance"  # it may be taken soon
    GONE = "gone"  # look at nodes() now
    PRICES = "prices"  # look at offers() now


class Scope(StrEnum):
    """How much of the market an error condemns."""

    REQUEST = "request"
    POOL = "pool"
    REGION = "region"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True, order=True)
class NodeRef:
    provider: str
    id: str  # the provider's own id, in whatever form it needs to find it again (GCP: "zone/name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A wish for `count` equal nodes in one pool, all or nothing. Byte-identical on every repeat of `token`."""

    token: str
    pool: Pool
    count: int
    user_data: str  # the agent's configuration, JSON; see wire/agent.py
    lease_until: Instant  # wall: no node of this launch lives longer, unless its lease is renewed
    price_max: MicroUsdPerHour | None = None  # per node
    tags: Mapping[str, str] = field(default_factory=dict)  # set in the same call, never afterwards


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    ref: NodeRef
    token: str
    index: int  # 0..count-1 within its launch
    pool: Pool
    status: NodeStatus
    launched_at: Instant  # market time: billing starts
    ended_at: Instant | None = None  # market time: billing ends
    ended_by: EndReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A hint that something is worth a look; nodes() stays the truth."""

    kind: NoticeKind
    ref: NodeRef | None = None
    deadline: Instant | None = None  # wall time


class ProviderError(Exception):
    """`code` is the cloud's own word, `scope` how much of the market it condemns, `cooldown` for how long.

    The cool-down runs in market time.
    """

    cooldown: Millis = Millis(0)

    def __init__(self, code: str, message: str = "", *, scope: Scope = Scope.REQUEST, cooldown: Millis | None = None):
        super().__init__(f"{code}: {message}" if message else code)
        self.code, self.scope = code, scope
        if cooldown is not None:
            self.cooldown = cooldown


class Capacity(ProviderError):
    """Sold out. Next: cool this pool down and plan again."""

    cooldown = Millis(180_000)


class Quota(ProviderError):
    """Our limit, not theirs. Next: avoid the scope, tell the operator once."""

    cooldown = Millis(3_600_000)


class Price(ProviderError):
    """The market moved above our limit. Next: plan again."""

    cooldown = Millis(60_000)


class Throttled(ProviderError):
    """Too many calls. Next: the same request, later."""

    cooldown = Millis(5_000)


class Auth(ProviderError):
    """Not allowed. Next: halt the provider, tell."""

    cooldown = Millis(600_000)


class Invalid(ProviderError):
    """Our bug or a retired shape. Next: never ask for this again."""

    cooldown = Millis(10 * 365 * 86_400_000)


class Ambiguous(ProviderError):
    """No answer: it may have happened. Next: repeat with the same token, or ask nodes()."""


class Provider(Protocol):
    name: str

    async def offers(self) -> list[Offer]:
        """Every offer with its quote, or raises ProviderError. Never an empty list for an error."""
        ...

    async def launch(self, want: Launch) -> list[Node]:
        """`want.count` nodes, all or nothing. The same token gives the same nodes, dead ones included.

        Raises Capacity, Quota, Price, Throttled, Auth, Invalid (nothing was left behind) or Ambiguous (unknown).
        """
        ...

    async def nodes(self, tokens: Collection[str] | None = None) -> list[Node]:
        """All of ours (or those of `tokens`), the recently dead too: the truth.

        Raises ProviderError, never lies by omission.
        """
        ...

    async def terminate(self, refs: Collection[NodeRef]) -> None:
        """Ask for the end of `refs`. Idempotent; unknown and dead refs are fine.

        Proof of the end comes from nodes().
        """
        ...

    def events(self) -> AsyncIterator[Notice]:
        """Hints, as they come; never ends by itself.

        Reconnects inside; after a gap it yields one GONE and one PRICES hint.
        """
        ...


@runtime_checkable
class Clocked(Protocol):
    """A provider whose market does not run in wall time (the embedded cloud, the simulator)."""

    async def clock(self) -> tuple[Moment, float]:
        """One moment on both clocks and the scale: market milliseconds per wall millisecond."""
        ...


@runtime_checkable
class Leased(Protocol):
    """A provider that ends a node itself when its lease runs out: the dead-man's switch beside the node's own."""

    async def renew(self, refs: Collection[NodeRef], until: Instant) -> None:
        """Move the end of these leases to `until` (wall). Never shortens one; unknown and dead refs are fine."""
        ...


@runtime_checkable
class Limited(Protocol):
    """A provider that tells what our account may run there."""

    async def limits(self) -> list[AccountQuota]:
        """Every quota that our launches meet, less what others of the account use. Raises ProviderError."""
        ...


@runtime_checkable
class Ailing(Protocol):
    """A provider that goes on when a part of its cloud does not answer, and says so."""

    @property
    def ailing(self) -> Mapping[str, str]:
        """A part (a region, the price list) -> why it does not answer, in the cloud's words. Empty: all is well."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """A provider that knows what its market was like before we looked."""

    history_span: Millis  # the longest time that one question is about

    def pasts(self) -> Sequence[str]:
        """The parts of its past that are asked for one by one, such as regions; each a good name for a folder."""
        ...

    async def history(self, part: str, since: Instant, until: Instant) -> list[tuple[Pool, Quote]]:
        """The steps of spot prices in that time, in its order; what was in force at `since` is told as of then.

        Raises ProviderError.
        """
        ...


class Known(Protocol):
    """What an operator has imported of prices: it fills what the cloud's own lists do not tell."""

    def quote(self, provider: str, region: str, zone: str, shape: str, kind: str) -> Quote | None:
        """With the age and source that it has. `kind`: "spot", "on-demand", "cud-1y", "cud-3y"."""
        ...

    def buckets(self, provider: str) -> Mapping[tuple[str, str], int]:
        """(region, shape) -> how often spot machines are interrupted, 0 (rarest) .. 4."""
        ...


class NothingKnown:
    """Nobody has imported anything."""

    def quote(self, provider: str, region: str, zone: str, shape: str, kind: str) -> Quote | None:
        return None

    def buckets(self, provider: str) -> Mapping[tuple[str, str], int]:
        return {}


NOTHING: Final = NothingKnown()


class Finding(NamedTuple):
    """One line of a check-up."""

    what: str  # "credentials", "permissions", "clock", "region us-east-1", ...
    status: Literal["ok", "warn", "fail"]
    message: str
    fix: str = ""  # a command


@runtime_checkable
class Doctored(Protocol):
    """A provider that can look at itself: credentials, permissions, clock, reach, quotas, hints."""

    async def doctor(self) -> list[Finding]:
        """Within a few seconds, whatever is broken. Changes nothing, and raises nothing that a cloud did."""
        ...


@runtime_checkable
class Committed(Protocol):
    """A provider that tells what has been promised to it."""

    async def commitments(self) -> list[Contract]:
        """Those in force: reserved instances, savings plans, committed use. Raises ProviderError."""
        ...
