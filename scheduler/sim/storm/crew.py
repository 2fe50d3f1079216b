"""The agents of a storm: each does one thing at a time, whenever chance lets it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsched.scheduler.core.message import CheckpointSaved, RanksStarted, Refusal, RenewLease, SetupBroke
from dsched.scheduler.sim.agent import STOPPING, Key

if TYPE_CHECKING:
    from dsched.scheduler.sim.storm.storm import Storm
    from dsched.scheduler.sim.storm.world import Machine

BAD_ENDS = (1, 75, 76, 77, 78, -9)
EXIT_SAVED = 75


class Crew:
    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        self.work: dict[str, int] = {}  # job -> how many bad ends it still has in it

    def act(self) -> None:
        """One turn of one agent; a daemon that refuses it as not ours ends it."""
        storm = self.storm
        alive = storm.living(lambda machine: not machine.mute)
        if not alive:
            return
        machine = storm.rng.choice(alive)
        try:
            self._turn(machine)
        except Refusal:
            storm.die(machine, "asked")

    def _turn(self, machine: Machine) -> None:
        storm = self.storm
        if not machine.heard:
            self._hello(machine)
        elif machine.orders and storm.rng.random() < 0.7:
            machine.agent.obey(machine.orders.pop(0))
        elif storm.rng.random() < 0.2:
            storm.extend(machine, storm.tell(RenewLease(node=machine.node)))
        else:
            self._report(machine)

    def _hello(self, machine: Machine) -> None:
        machine.heard = True
        machine.orders.clear()  # a new session begins
        left = self.storm.tell(machine.agent.hello())
        if left <= self.storm.policy.lease // 2:  # as the desk does it
            left = self.storm.tell(RenewLease(node=machine.node))
        self.storm.extend(machine, left)

    def _report(self, machine: Machine) -> None:
        agent = machine.agent
        for key in list(agent.unreported()):
            self._started(machine, key)
            return
        for key, at in list(agent.ranks.items()):
            if at == STOPPING or self._ends_by_itself(key):
                self._end(machine, key, drained=at == STOPPING or agent.noticed)
                return
        for key in list(agent.exits):
            report = agent.exited(key)
            self.storm.tell(report)
            if self.storm.unlucky(0.05):
                self.storm.tell(report)  # its answer was lost, and it says so again
            agent.reported(key)
            return
        if agent.leaving:
            self.storm.die(machine, "asked")

    def _started(self, machine: Machine, key: Key) -> None:
        storm, agent = self.storm, machine.agent
        job, generation = key
        agent.told.add(key)
        if storm.unlucky(0.05):
            storm.broken.add(key)
            del agent.ranks[key]
            storm.tell(SetupBroke(node=machine.node, job=job, generation=generation, command="pip", code=1))
        else:
            storm.tell(RanksStarted(node=machine.node, job=job, generation=generation))

    def _ends_by_itself(self, key: Key) -> bool:
        return key not in self.storm.broken and self.storm.rng.random() < 0.03

    def _end(self, machine: Machine, key: Key, *, drained: bool) -> None:
        storm, (job, generation) = self.storm, key
        code = EXIT_SAVED if drained else 0
        if not drained and self.work.get(job, 0) > 0:
            self.work[job] -= 1
            code = storm.rng.choice(BAD_ENDS)
        if code:
            storm.broken.add(key)
        machine.agent.end(key, code, drained=drained)
        if code in (1, -9) and storm.rng.random() < 0.5:
            step = storm.state.jobs[job].checkpoint_step + 5
            storm.tell(CheckpointSaved(node=machine.node, job=job, generation=generation, step=step))
