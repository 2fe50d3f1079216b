"""What really is, in a storm: the machines, the agents on them, true time. The core sees only what reaches it.

True time is the boot clock of the host, by which agents keep their leases and clouds bill. The wall clock of daemon and
agents may be set: then it differs from true time by `shift`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from dsched.scheduler.core.message import SeenNode
from dsched.scheduler.core.snapshot import Intent
from dsched.scheduler.core.units import Instant
from dsched.scheduler.sim.agent import Agent, Key
from dsched.scheduler.sim.clock import Agenda

START: Final = Instant(10**9)


@dataclass(slots=True, eq=False)
class Machine:
    """One machine. Instants are true time; those that it tells its cloud's customers are market time."""

    ref: str
    index: int
    intent: Intent
    lease: int
    launched: int  # market
    visible_at: int
    agent: Agent
    late: bool = False  # its launch took effect after everybody had given up waiting
    mute: bool = False  # its agent never comes up: only the provider can end it
    forgotten: bool = False  # the provider does not list it once it is dead
    undead: bool = False  # the provider does not get it ended, whoever asks
    cursed: bool = False  # it was undead once: it may have outlived its lease
    alive: bool = True
    ended: int = 0  # market
    by: str = ""
    notice: int | None = None
    doom: int | None = None  # taken at this instant, though its agent heard no notice
    heard: bool = False  # in this incarnation of the daemon
    welcomed: bool = False  # its agent has heard from the daemon: the launch's word of a lease is over
    orders: list[Any] = field(default_factory=list)  # waiting for its next poll, in order

    @property
    def token(self) -> str:
        return self.intent.id

    @property
    def node(self) -> str:
        return f"{self.token}.{self.index}"


class World:
    """Machines and time. Chance comes from one seed."""

    def __init__(self, seed: int) -> None:
        self.seed, self.rng = seed, Random(seed)  # noqa: S311 - faults, not secrets
        self.agenda = Agenda(START, scale=(1, 1, 60)[seed % 3])
        self.faults = True
        self.machines: dict[str, Machine] = {}
        self.counts: Counter[str] = Counter()
        self.broken: set[Key] = set()  # generations that lost a rank: the others wait for it for ever
        self.true = int(START)
        self.shift = 0

    @property
    def scale(self) -> float:
        return self.agenda.scale

    def unlucky(self, share: float) -> bool:
        return self.faults and self.rng.random() < share

    # -- time --------------------------------------------------------------------------------------------------------

    def pass_time(self, wall: int) -> None:
        self.true += wall
        self._set_clock()

    def jump(self, by: int) -> None:
        """Somebody sets the wall clock: no time passes."""
        self.shift += by
        self._set_clock()

    def _set_clock(self) -> None:
        self.agenda.now = self.agenda.moment(self.true + self.shift)

    def market(self, true: int) -> int:
        """The cloud's own clock, which nobody sets."""
        return START + int((true - START) * self.scale)

    def reap(self) -> None:
        """Whatever time has ended."""
        for machine in self.machines.values():
            ends = [(at, "interrupted") for at in (machine.notice, machine.doom) if at is not None]
            at, by = min([*ends, (machine.lease, "lease")])
            if not machine.alive or self.true < at:
                continue
            if machine.undead:  # the agent ends its ranks by itself; the machine lives on
                machine.mute = True
                self._silence(machine)
            else:
                self.die(machine, by, self.market(at))

    # -- machines ----------------------------------------------------------------------------------------------------

    def build(self, intent: Intent, *, late: bool = False) -> None:
        """All or nothing; a lease that is over already starts nothing."""
        self.counts["launch"] += 1
        for index in range(intent.count if intent.lease_until - self.shift > self.true else 0):
            ref = f"i{len(self.machines)}"
            machine = Machine(
                ref,
                index,
                intent,
                intent.lease_until - self.shift,
                self.market(self.true),
                self.true + (self.rng.randrange(20_000) if self.faults else 0),
                Agent(f"{intent.id}.{index}"),
            )
            machine.late, machine.mute = late, self.unlucky(0.2)
            self.machines[ref] = machine

    def of(self, token: str) -> list[Machine]:
        return [machine for machine in self.machines.values() if machine.token == token]

    def living(self, fits: Callable[[Machine], bool] = lambda machine: True) -> list[Machine]:
        return [machine for machine in self.machines.values() if machine.alive and fits(machine)]

    def machine(self, node: str) -> Machine | None:
        return next((machine for machine in self.machines.values() if machine.alive and machine.node == node), None)

    def die(self, machine: Machine, by: str, at: int | None = None) -> None:
        """At market instant `at`; None: now."""
        if machine.alive:
            machine.alive, machine.by = False, by
            machine.ended = self.market(self.true) if at is None else at
            machine.forgotten = self.unlucky(0.2)
            self._silence(machine)

    def extend(self, machine: Machine, left: int) -> None:
        """So much is left of its lease; the machine counts it on its boot clock."""
        until = self.true + left
        if machine.notice is None and (until > machine.lease or not machine.welcomed):
            machine.lease, machine.welcomed = until, True

    def seen(self, machine: Machine) -> SeenNode:
        return SeenNode(
            ref=machine.ref,
            token=machine.token,
            index=machine.index,
            pool=machine.intent.pool,
            alive=machine.alive,
            launched=Instant(machine.launched),
            ended=None if machine.alive else Instant(machine.ended),
            ended_by=machine.by,
        )

    def listed(self) -> tuple[SeenNode, ...]:
        """A list may lag behind a launch, and lacks some; it never shows a dead machine as alive."""
        return tuple(
            self.seen(machine)
            for machine in self.machines.values()
            if (machine.visible_at <= self.true if machine.alive else not machine.forgotten) and not self.unlucky(0.05)
        )

    def _silence(self, machine: Machine) -> None:
        self.broken |= machine.agent.die()
