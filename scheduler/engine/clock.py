"""The daemon's clocks: the only place of the control plane that reads the time, and where its jumps are noticed.

Wall time is what leases, notices and deadlines are written in, and it may be set. The boot clock cannot, and agents
keep their leases on it: a lease that the wall clock skipped over is not over. And while this host slept nobody could
renew one. Both show in the distances between the clocks, which are constant otherwise: NTP bends the rate of all of
them alike.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from dsched.scheduler.core.units import SECOND, Instant, Millis, Moment

JUMP: Final = Millis(SECOND)  # far more than the rounding, far less than the margin that a proof by lease leaves
READ_MAX: Final = Millis(50)  # between the first and the last of one reading; a slower one was interrupted
READ_TRIES: Final = 10
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Anchor:
    """How far the clocks are apart, in milliseconds."""

    boot: str  # id of the host's boot: another one means that nothing can be compared
    offset: int  # wall - boot clock: changes when the wall clock is set
    slept: int  # boot clock - monotonic: grows when the host is suspended

    def text(self, held: Instant = Instant(0)) -> str:
        """To be remembered, with the instant until which proofs by lease are held back."""
        return json.dumps({**asdict(self), "held": held})

    @classmethod
    def of(cls, text: str | None) -> Anchor | None:
        """What an earlier process remembered; None where there is nothing of use."""
        try:
            told = json.loads(text or "")
            return cls(str(told["boot"]), int(told["offset"]), int(told["slept"]))
        except (ValueError, TypeError, KeyError):
            return None


@dataclass(frozen=True, slots=True)
class Jump:
    """What happened between two looks at the clocks."""

    set_by: Millis  # the wall clock, forward or (negative) back
    slept: Millis
    held: Instant = Instant(0)  # what an earlier process held back proofs until


@dataclass(frozen=True, slots=True)
class Reading:
    wall: int
    boot: int
    monotonic: int


def read_clocks() -> Reading:
    """All three at one instant."""
    tries = 0
    while True:
        began = time.monotonic_ns()
        wall, boot, ended = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.monotonic_ns()
        tries += 1
        if ended - began < READ_MAX * 1_000_000 or tries == READ_TRIES:
            return Reading(wall // 1_000_000, boot // 1_000_000, ended // 1_000_000)


def boot_id() -> str:
    return BOOT_ID.read_text().strip()


@dataclass(slots=True)
class Clock:
    """Market time runs `scale` times as fast as wall time since `origin`; on real clouds they are the same."""

    origin: Moment = field(default_factory=lambda: Moment(Instant(0), Instant(0)))
    scale: float = 1.0
    anchor: Anchor | None = None  # of an earlier process of this daemon: what jumped meanwhile is noticed, too
    read: Callable[[], Reading] = read_clocks
    _jump: Jump | None = None

    def now(self) -> Moment:
        reading = self.read()
        self._compare(reading)
        wall = Instant(reading.wall)
        return Moment(wall, Instant(self.origin.market + int((wall - self.origin.wall) * self.scale)))

    def boot(self) -> int:
        """Milliseconds on the clock that nobody sets: for what lasts, not for dates."""
        return self.read().boot

    def follow(self, moment: Moment, scale: float) -> None:
        """Take over a provider's market clock."""
        self.origin, self.scale = moment, scale

    def jumped(self) -> Jump | None:
        """What happened to the clocks since this was asked last."""
        jump, self._jump = self._jump, None
        return jump

    @property
    def settled(self) -> bool:
        """Whether everything that was noticed has been asked for."""
        return self._jump is None

    def _compare(self, reading: Reading) -> None:
        offset, slept = reading.wall - reading.boot, reading.boot - reading.monotonic
        anchor = self.anchor
        if anchor is None:
            self.anchor = Anchor(boot_id(), offset, slept)
            return
        if abs(offset - anchor.offset) <= JUMP and slept - anchor.slept <= JUMP:
            return
        self.anchor = Anchor(anchor.boot, offset, slept)
        before = self._jump or Jump(Millis(0), Millis(0))
        set_by = Millis(before.set_by + offset - anchor.offset)
        self._jump = Jump(set_by, Millis(before.slept + max(0, slept - anchor.slept)), before.held)


def clock_since(text: str | None) -> Clock:
    """A clock that notices what happened to this host's clocks since the anchor `text` was written, on this boot."""
    anchor = Anchor.of(text)
    if anchor is None or anchor.boot != boot_id():
        return Clock()
    held = Instant(int(json.loads(text or "{}").get("held", 0)))
    return Clock(anchor=anchor, _jump=Jump(Millis(0), Millis(0), held) if held else None)
