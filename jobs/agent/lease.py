"""The node's right to live: draining starts before its end, the end itself is unconditional.

Kept on the boot clock, which nobody sets. The launch's own word comes first, an instant read on this machine's wall
clock; then the daemon's grants, each so many milliseconds from when it was asked for. Silence extends nothing. An
interruption notice cuts the lease to the notice's deadline, and after that no answer can extend it.

    ... running ... | drain (SIGTERM) ........ | kill | end
                    until - lead               until - margin
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dsched.jobs.agent.clock import boot_ms, to_boot
from dsched.jobs.agent.loop import Loop, Timer

KILL_MARGIN_MS: Final = 1_000  # what is left for reaping and for the last facts on their way home
# The daemon renews a lease when half of it is over, and is asked again after a quarter of what is left at the latest:
# at least 3/8 of a lease are left when its renewal comes. A drain time beyond that would drain a healthy node.
DRAIN_PART: Final = 3


class Lease:
    def __init__(
        self,
        loop: Loop,
        drain_ms: int,
        *,
        drain: Callable[[int], None],
        kill: Callable[[], None],
        end: Callable[[], None],
        moved: Callable[[int], None],
    ) -> None:
        """`drain(deadline)` gets the boot instant of the kill; `moved(until)` hears of every new end."""
        self._loop, self._drain_ms = loop, drain_ms
        self._drain, self._kill, self._end, self._moved = drain, kill, end, moved
        self._timers: list[Timer] = []
        self.until = 0  # on the boot clock; 0: not armed yet
        self.kill_at = 0
        self.cut = False
        self._granted = False  # by the daemon

    def begin(self, until_wall: int) -> None:
        """The launch's word, or what an agent before this one was granted: in force until the daemon's first answer."""
        self._arm(to_boot(until_wall), drain_now=False)

    def extend(self, until: int) -> None:
        """A grant of the daemon, on the boot clock. Answers may overtake one another: an earlier end changes nothing.

        The first one also shortens: the launch's word may have been read on a clock that was wrong.
        """
        if not self.cut and (until > self.until or not self._granted):
            self._granted = True
            self._arm(until, drain_now=False)

    def cut_to(self, deadline_wall: int) -> None:
        """The cloud takes the machine at `deadline_wall`: drain now; never later than the lease that stood."""
        until = to_boot(deadline_wall)
        self.cut = True
        self._arm(min(until, self.until), drain_now=True)

    def _arm(self, until: int, *, drain_now: bool) -> None:
        for timer in self._timers:
            timer.cancel()
        now = boot_ms()
        self.until = until
        left = max(0, until - now)
        # A short notice keeps a tenth.
        lead = left if drain_now else min(self._drain_ms, left // DRAIN_PART)
        self.kill_at = until - min(KILL_MARGIN_MS, lead // 10)
        self._timers = [
            self._loop.at(until - lead, self._draining),
            self._loop.at(self.kill_at, self._kill),
            self._loop.at(until, self._end),
        ]
        self._moved(until)

    def _draining(self) -> None:
        self._drain(self.kill_at)
