"""How much one principal may ask for: a token bucket each, and a bound on open streams."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from dsched.scheduler.api.problem import Fault

PRINCIPALS_MAX: Final = 4_096  # buckets kept; the longest unused is dropped, which can only be generous to it


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Generous: they stop a loop gone wild, not a person or a script."""

    writes_per_s: float = 2_000.0  # more than the store needs to be busy
    writes_burst: int = 10_000  # a script that submits its whole sweep at once
    streams: int = 512  # open event streams and followed logs of everybody together; one costs a socket and a buffer
    spec_bytes: int = 64 * 1024
    report_bytes: int = 1024 * 1024
    log_bytes: int = 1024 * 1024  # one chunk
    bundle_bytes: int = 256 * 1024 * 1024


GENEROUS: Final = Limits()


@dataclass(slots=True)
class Buckets:
    rate: float  # tokens per second
    burst: int
    clock: Callable[[], float]  # seconds, monotonic
    _held: OrderedDict[int, tuple[float, float]] = field(default_factory=OrderedDict)  # uid -> tokens, at

    def take(self, uid: int) -> None:
        """One token of this principal's bucket. Raises Fault 429 with the time to wait."""
        now = self.clock()
        tokens, at = self._held.get(uid, (float(self.burst), now))
        tokens = min(float(self.burst), tokens + (now - at) * self.rate)
        if tokens < 1.0:
            wait = (1.0 - tokens) / self.rate
            hint = f"wait {wait:.3f} s; the limit is {self.rate:g} changes per second"
            raise Fault(429, "too many changes at once", hint, headers={"retry-after": f"{max(1, round(wait))}"})
        self._held[uid] = (tokens - 1.0, now)
        self._held.move_to_end(uid)
        if len(self._held) > PRINCIPALS_MAX:
            self._held.popitem(last=False)


@dataclass(slots=True)
class Streams:
    """Open streams of everybody. `check` before the answer begins, `with streams:` while it lasts."""

    most: int
    open: int = 0

    def check(self) -> None:
        """Raises Fault 503 when there are too many."""
        if self.open >= self.most:
            raise Fault(503, f"{self.most} streams are open already", "close a `dsched top` or `logs -f` somewhere")

    def __enter__(self) -> None:
        self.open += 1

    def __exit__(self, *_: object) -> None:
        self.open -= 1

    async def count(self, frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The same frames, counted as one open stream."""
        with self:
            async with aclosing(frames):
                async for made in frames:
                    yield made
