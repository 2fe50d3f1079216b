"""What the API needs of the daemon. The composition root hands it in; the API imports none of its makers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from dsched.scheduler.core.calibration import Calibration, judge
from dsched.scheduler.core.commitment import Contract
from dsched.scheduler.core.event import Event
from dsched.scheduler.core.job import Spec
from dsched.scheduler.core.message import Message
from dsched.scheduler.core.snapshot import Attempt, Decision, Job, LedgerEntry, State
from dsched.scheduler.core.units import Instant, MicroUsdPerHour, Moment
from dsched.scheduler.core.whatif import Change
from dsched.scheduler.wire.agent import Hello, Lease, Orders, Poll, Report, Welcome
from dsched.scheduler.wire.api import Check, Health, Plan

Committed = tuple[int, Event]  # an event and its sequence number, durable


class Control(Protocol):
    """The step core behind its loop."""

    @property
    def state(self) -> State:
        """Read only."""
        ...

    @property
    def scale(self) -> float:
        """Market milliseconds per wall millisecond."""
        ...

    @property
    def market_note(self) -> str:
        """Where the market comes from, or "": shown in every summary."""
        ...

    def now(self) -> Moment: ...

    async def send(self, message: Message) -> Any:
        """The core's answer, once it is durable. Raises core.message.Refusal; then nothing has changed."""
        ...

    def dry_run(self, spec: Spec, changes: Sequence[Change] = ()) -> Plan:
        """The plan that this spec would get now, or if these changes were true. Raises core.message.Refusal."""
        ...

    def health(self) -> Health: ...


class Lagged(Exception):
    """The subscriber was too slow and has lost events: read them from the store, or start again from a snapshot."""


class Closed(Exception):
    """The daemon is going down; no more events will come."""


class Subscription(Protocol):
    async def next(self) -> Sequence[Committed]:
        """All committed events since the last call, at least one, in order. Raises Lagged or Closed."""
        ...

    def close(self) -> None: ...


class Feed(Protocol):
    @property
    def last_seq(self) -> int: ...

    @property
    def recent(self) -> Iterable[Committed]:
        """The newest events, oldest first, bounded: what a new watcher sees first."""
        ...

    def subscribe(self) -> Subscription:
        """Everything after `last_seq` as it stands now."""
        ...

    def close(self) -> None:
        """No more events: every subscriber is told. The server calls it at its end."""
        ...


class Desk(Protocol):
    """Where agents call in. Every method raises wire.session's Unknown, Stranger, Forbidden or Doubled."""

    async def hello(self, body: Hello) -> Welcome: ...

    async def poll(self, body: Poll) -> Orders: ...

    async def report(self, body: Report) -> Lease: ...

    def check(self, session: str, node: str = "") -> str:
        """The node that holds this session; when `node` is given, only that one will do."""
        ...


class Logged(Protocol):
    """One event as the store returns it."""

    @property
    def seq(self) -> int: ...

    @property
    def event(self) -> Event: ...


class Queries(Protocol):
    """Stored history. Blocking and thread-safe: called in a thread."""

    def events(self, after: int = 0, *, limit: int = 200, job: str = "") -> Sequence[Logged]: ...

    def last_events(self, *, limit: int = 200, job: str = "") -> Sequence[Logged]: ...

    def jobs(
        self, *, states: Collection[Any] = (), user: str = "", name: str = "", after: str = "", limit: int = 50
    ) -> Sequence[Job]: ...

    def page_of_jobs(
        self,
        *,
        states: Collection[Any] = (),
        user: str = "",
        after: str = "",
        first: str = "",
        limit: int = 50,
        known: Mapping[str, Job] = ...,
    ) -> tuple[Sequence[Job], int]:
        """`jobs`, those in `known` from there, and how many more match."""
        ...

    def job(self, ref: str) -> Job | None:
        """By id or unique name. Raises store.errors.AmbiguousName."""
        ...

    def job_with_key(self, key: str) -> Job | None: ...

    def decisions(self, job: str) -> Sequence[Decision]: ...

    def attempts(self, job: str) -> Sequence[Attempt]: ...

    def seq(self) -> int: ...

    def ledger(self, *, job: str = "", since: Instant = Instant(0)) -> Sequence[LedgerEntry]: ...

    def history(self, pools: Collection[str], *, now: Instant) -> Mapping[str, Sequence[MicroUsdPerHour | None]]: ...


async def no_checks() -> list[Check]:
    return []


def nothing_judged() -> Calibration:
    return judge([])


async def never_again(told: Mapping[str, Any]) -> Mapping[str, Any]:
    return {}


def never_busy() -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What the composition root may add."""

    gauges: Callable[[], Mapping[str, float]] = field(default=dict)  # more figures for /v1/metrics: name -> value
    checks: Callable[[], Awaitable[list[Check]]] = no_checks  # more findings for /v1/checks
    calibration: Callable[[], Calibration] = nothing_judged  # how good predictions of interruptions were
    again: Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]] = never_again  # a stored decision, made anew
    contracts: Callable[[], Sequence[Contract]] = tuple  # what has been promised to providers, in force
    busy: Callable[[], str] = never_busy  # why no change is taken now (the store is behind), or ""
    code: Mapping[str, bytes] = field(default_factory=dict)  # what bare machines fetch, by SHA-256 in hexadecimal


NOTHING_MORE: Final = Extras()
