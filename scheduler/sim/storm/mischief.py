"""What goes wrong in a storm besides lost calls: machines, notices, droughts, limits, clocks, the daemon's death."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from dsched.scheduler.core.message import ClockJumped, NodeNoticed, SetBudget, Tick
from dsched.scheduler.core.units import HOUR, MINUTE, SECOND, Instant, Millis, usd

if TYPE_CHECKING:
    from dsched.scheduler.sim.storm.storm import Storm
    from dsched.scheduler.sim.storm.world import Machine

FAULTS: Final = (
    *("crash", "kill", "notice", "offers", "person", "agent", "budget", "stranger", "session") * 3,
    *("drought", "undead"),
    *("jump", "jump", "sleep"),
    "away",
)
JUMPS: Final = (HOUR, -HOUR, 40 * MINUTE, -5 * MINUTE, 10 * SECOND)


class Mischief:
    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        self.doings: dict[str, Callable[[], None]] = {
            "crash": storm.crash,
            "away": self._away,
            "offers": storm.offers,
            "person": storm.person,
            "budget": self._budget,
            "drought": self._drought,
            "jump": self._jump,
            "sleep": self._sleep,
        }

    def act(self) -> None:
        """One fault, if it finds something to spoil."""
        alive = self.storm.living()
        kind = self.storm.rng.choice(FAULTS)
        if kind in self.doings:
            self.storm.counts[kind] += 1
            self.doings[kind]()
        elif alive:
            self.storm.counts[kind] += 1
            fresh = [machine for machine in alive if any(machine.agent.unreported())]
            self._harm(self.storm.rng.choice(fresh if fresh and kind == "agent" else alive), kind)

    def _away(self) -> None:
        """The daemon is dead for so long that leases end meanwhile."""
        self.storm.pass_time(self.storm.rng.randrange(self.storm.policy.lease * 3 // 2))
        self.storm.reap()
        self.storm.crash()

    def _budget(self) -> None:
        if not self.storm.limit:
            limit = self.storm.rng.choice([None, usd(3), usd(50), usd(100_000)])
            self.storm.tell(SetBudget(name="default", limit=limit))

    def _drought(self) -> None:
        self.storm.offers(dry=True)

    def _jump(self) -> None:
        """The wall clock is set, and the daemon notices at its next look at the clocks."""
        storm = self.storm
        if storm.jumpy:
            by = -storm.shift if storm.shift and storm.rng.random() < 0.5 else storm.rng.choice(JUMPS)
            storm.jump(by)
            storm.jumped(ClockJumped(set_by=Millis(by)))

    def _sleep(self) -> None:
        """The host sleeps, and the daemon wakes up before the agents, which then end what is over."""
        if self.storm.jumpy:
            by = self.storm.rng.randrange(self.storm.policy.lease * 2)
            self.storm.pass_time(by)
            self.storm.slept += by
            self.storm.jumped(ClockJumped(slept=Millis(by)))
            self.storm.tell(Tick())
            self.storm.judge.look()

    def _harm(self, machine: Machine, kind: str) -> None:
        match kind:
            case "session":  # a new one begins, and the orders of the old one are gone
                machine.heard = False
            case "stranger":  # a launch of a time that a restore from backup has forgotten
                lease = Instant(self.storm.now.wall + self.storm.policy.lease)
                self.storm.build(
                    replace(machine.intent, id=f"ds-lost-{len(self.storm.machines)}", lease_until=lease), late=True
                )
            case "kill":
                machine.undead = False
                self.storm.die(machine, "interrupted")
            case "undead":
                machine.undead = machine.cursed = True
            case "agent":  # its agent dies: the ranks die with it, a new one dials in
                machine.heard = False
                machine.agent.boots += 1
                self.storm.broken |= machine.agent.die()
            case _:
                if machine.notice is None:
                    self._notice(machine)

    def _notice(self, machine: Machine) -> None:
        lead = self.storm.rng.choice([3_000, 120_000])
        deadline = Instant(self.storm.now.wall + lead)
        by_node = self.storm.rng.random() < 0.7
        if by_node:
            machine.notice = self.storm.true + lead
            machine.lease = min(machine.lease, machine.notice)
            machine.agent.noticed = True
            machine.agent.drain()
        else:  # only the provider told, and it may be late
            machine.doom = self.storm.true + lead + self.storm.rng.choice([0, 0, 60_000])
        self.storm.tell(NodeNoticed(node=machine.node, deadline=deadline, source="storm", by_node=by_node))
