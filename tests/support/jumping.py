"""A storm on a host whose wall clock is set forward and that falls asleep: agents live on, or end, by their own clocks.

A daemon that starts anew while a jump still counts notices it again, by the anchor that it had not replaced yet.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from dsched.scheduler.core.message import ClockJumped, Tick
from dsched.scheduler.core.units import Millis
from tests.support.storm import Machine, Storm

SHARE = 0.05  # of the faults


class Jumping(Storm):
    """Money is not judged: time that nobody lived costs nothing, and no ledger knows that."""

    def __init__(self, seed: int) -> None:
        self.skew: defaultdict[str, int] = defaultdict(
            int
        )  # machine -> by how much its lease ends later than its row's
        self.told_of: ClockJumped | None = None  # while it counts
        super().__init__(seed)

    def _fault(self) -> None:
        if self.rng.random() >= SHARE:
            super()._fault()
            return
        by = self.rng.randrange(self.policy.lease * 2)
        self._pass(by)
        if self.rng.random() < 0.5:
            self.counts["set forward"] += 1
            for machine in self.machines.values():
                self.skew[machine.ref] += by
            self.told_of = ClockJumped(set_by=Millis(by))
        else:
            self.counts["slept"] += 1  # the daemon wakes up before the agents, which then end what is over
            self.told_of = ClockJumped(set_by=self.told_of.set_by if self.told_of else Millis(0), slept=Millis(by))
        self.tell(self.told_of)
        self.tell(Tick())
        self.judge.look()

    def _time(self, most: int) -> None:
        super()._time(most)
        if self.now.wall > self.state.proofs_from:
            self.told_of = None

    def _crash(self) -> None:
        super()._crash()
        if self.told_of is not None:
            self.tell(self.told_of)

    def _extend(self, machine: Machine, until: Any) -> None:
        before = machine.lease
        super()._extend(machine, until)
        if machine.lease > before:
            self.skew[machine.ref] = 0

    def _reap(self) -> None:
        for machine in self.machines.values():
            ends = [(at, "interrupted") for at in (machine.notice, machine.doom) if at is not None]
            at, by = min([*ends, (machine.lease + self.skew[machine.ref], "lease")])
            if machine.alive and self.now.wall >= at:
                self._die(machine, by, self._market(at))
