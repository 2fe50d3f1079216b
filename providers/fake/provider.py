"""The fake cloud behind the provider port, with the faults of the way there: refusals, lost replies, lost pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from dsched.providers.base import (
    Ambiguous,
    Auth,
    Capacity,
    Invalid,
    Launch,
    Node,
    NodeRef,
    Notice,
    ProviderError,
    Quota,
    Scope,
    Throttled,
)
from dsched.providers.fake.cloud import FakeCloud
from dsched.scheduler.core.market import Offer
from dsched.scheduler.core.units import Instant, Moment

T = TypeVar("T")


class Mishap(StrEnum):
    """What can happen to a call."""

    THROTTLED = "throttled"
    AUTH = "auth"
    QUOTA = "quota"
    CAPACITY = "capacity"
    INVALID = "invalid"
    LOST_BEFORE = "lost-before"  # no answer, nothing done
    LOST_AFTER = "lost-after"  # no answer, but done
    PAGE_LOST = "page-lost"  # a page of the list did not come: the adapter must not tell the rest
    OMITS = "omits"  # the cloud's own list lacks some nodes, and nobody can see that


_REFUSALS: Final[Mapping[Mishap, Callable[[], ProviderError]]] = {
    Mishap.THROTTLED: lambda: Throttled("RequestLimitExceeded"),
    Mishap.AUTH: lambda: Auth("UnauthorizedOperation", scope=Scope.ACCOUNT),
    Mishap.QUOTA: lambda: Quota("MaxSpotInstanceCountExceeded", scope=Scope.REGION),
    Mishap.CAPACITY: lambda: Capacity("InsufficientInstanceCapacity", scope=Scope.POOL),
    Mishap.INVALID: lambda: Invalid("InvalidParameterValue"),
}
_READS: Final = ("offers", "nodes")


@dataclass(slots=True)
class Fault:
    """The next `times` calls of `op` meet it."""

    op: str
    mishap: Mishap
    times: int = 1


class FakeProvider:
    """Provider, Clocked and Leased. Planned faults first, then by the dice: `rates` is op -> mishap -> probability."""

    def __init__(
        self,
        cloud: FakeCloud,
        *,
        scale: float = 1.0,
        reachable: bool = True,
        rates: Mapping[str, Mapping[Mishap, float]] | None = None,
    ) -> None:
        self.name = cloud.name
        self.faults: list[Fault] = []
        self.reachable = reachable
        self._cloud = cloud
        self._scale = scale
        self._rates = rates or {}

    async def offers(self) -> list[Offer]:
        return self._call("offers", self._cloud.offers)

    async def launch(self, want: Launch) -> list[Node]:
        return self._call("launch", lambda: self._cloud.launch(want))

    async def nodes(self, tokens: Collection[str] | None = None) -> list[Node]:
        return self._call("nodes", lambda: self._cloud.nodes(tokens))

    async def terminate(self, refs: Collection[NodeRef]) -> None:
        self._call("terminate", lambda: self._cloud.terminate(refs))

    async def renew(self, refs: Collection[NodeRef], until: Instant) -> None:
        self._call("renew", lambda: self._cloud.renew(refs, until))

    async def clock(self) -> tuple[Moment, float]:
        return self._cloud.now(), self._scale

    async def events(self) -> AsyncIterator[Notice]:
        queue: asyncio.Queue[Notice] = asyncio.Queue()
        self._cloud.hear.append(queue.put_nowait)
        try:
            while True:
                yield await queue.get()
        finally:
            self._cloud.hear.remove(queue.put_nowait)

    def _call(self, op: str, effect: Callable[[], T]) -> T:
        mishap = self._mishap(op) if self.reachable else Mishap.LOST_BEFORE
        if mishap is not None and (refusal := _REFUSALS.get(mishap)):
            raise refusal()
        if mishap in (Mishap.LOST_BEFORE, Mishap.PAGE_LOST):
            raise _no_answer(op, mishap)
        result = effect()
        if mishap is Mishap.LOST_AFTER:
            raise _no_answer(op, mishap)
        if mishap is Mishap.OMITS and isinstance(result, list):
            return type(result)(one for one in result if self._cloud.rng.random() < 0.5)
        return result

    def _mishap(self, op: str) -> Mishap | None:
        for fault in self.faults:
            if fault.op == op and fault.times > 0:
                fault.times -= 1
                return fault.mishap
        for mishap, rate in self._rates.get(op, {}).items():
            if self._cloud.rng.random() < rate:
                return mishap
        return None


def _no_answer(op: str, mishap: Mishap) -> ProviderError:
    return ProviderError("NoAnswer", f"{op}: {mishap}") if op in _READS else Ambiguous("NoAnswer", f"{op}: {mishap}")
