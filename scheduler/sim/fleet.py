"""The machines of a simulation and the agents on them, in time: they boot, call in, obey, work, save, report and die.

What an agent says goes through its outbox, as in the real one: while the daemon is away nothing is lost, it waits.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from dsched.providers.base import NodeRef
from dsched.providers.fake.cloud import FakeCloud, Machine
from dsched.scheduler.core.effect import TellStart, TellStop
from dsched.scheduler.core.hardware import Shape
from dsched.scheduler.core.message import (
    CheckpointSaved,
    FirstStep,
    Message,
    NodeNoticed,
    RanksExited,
    RanksStarted,
    Refusal,
    RenewLease,
)
from dsched.scheduler.core.units import SECOND, Instant, Millis
from dsched.scheduler.sim.agent import RUNNING, STOPPING, Agent, Key, Order
from dsched.scheduler.sim.clock import Agenda
from dsched.scheduler.sim.daemon import Away, Daemon
from dsched.scheduler.sim.judge import Judge
from dsched.scheduler.sim.work import Pace, Run, Work

CALL_AGAIN: Final = Millis(5 * SECOND)  # an agent whose daemon is away tries again this often
NOTICE_MARGIN: Final = Millis(SECOND)  # before the cloud takes it, the agent has ended its ranks
EXIT_SAVED: Final = 75
EXIT_PEER: Final = 76
EXIT_KILLED: Final = -9


@dataclass(slots=True, eq=False)
class Member:
    """One machine and its agent."""

    ref: NodeRef
    agent: Agent
    shape: Shape
    pool: str
    lease: Instant
    mute: bool = False  # its agent never comes up
    alive: bool = True
    session: int = -1  # the daemon's incarnation that it called in at
    calling: bool = False  # a call is due already
    outbox: deque[Message] = field(default_factory=deque)


class Fleet:
    """Plays every agent.

    `speed`: job, machine's shape and number of machines -> reference hours of work done in an hour.
    `mute`: the share of machines whose agent never comes up.
    """

    def __init__(
        self,
        agenda: Agenda,
        cloud: FakeCloud,
        daemon: Daemon,
        judge: Judge,
        pace: Pace,
        speed: Callable[[str, Shape, int], float],
        *,
        mute: float = 0.0,
    ) -> None:
        self.agenda, self.cloud, self.daemon, self.judge, self.pace = agenda, cloud, daemon, judge, pace
        self.speed, self.mute = speed, mute
        self.members: dict[str, Member] = {}  # by node, the living ones
        self.work: dict[str, Work] = {}  # by job
        self.runs: dict[Key, Run] = {}
        self.counts: Counter[str] = Counter()
        self._by_ref: dict[NodeRef, Member] = {}

    # -- machines ----------------------------------------------------------------------------------------------------

    def appear(self, machines: Iterable[Machine], shape: Shape) -> None:
        """These were launched just now, whether anybody hears of it or not."""
        for machine in machines:
            ref = machine.node.ref
            if ref in self._by_ref:
                continue
            name = f"{machine.node.token}.{machine.node.index}"
            member = Member(ref, Agent(name), shape, machine.node.pool.id, machine.lease_until)
            member.mute = self.mute > 0 and self.cloud.rng.random() < self.mute
            self.members[name] = self._by_ref[ref] = member
            self.counts["machines"] += 1
            if not member.mute:
                self._call(member, self.pace.boot)

    def gone(self, ref: NodeRef) -> None:
        """The cloud ended it, whoever asked for that."""
        member = self._by_ref.pop(ref, None)
        if member is None:
            return
        member.alive = False
        self.members.pop(member.agent.node, None)
        for key in list(member.agent.ranks):
            self.judge.ended(key, member.agent.node)
        for key in member.agent.die():
            self._break(key, member)

    def noticed(self, ref: NodeRef, deadline: Instant) -> None:
        """The metadata service tells the agent, which saves and leaves by itself."""
        member = self._by_ref.get(ref)
        if member is None or member.mute or member.agent.noticed:
            return
        agent = member.agent
        agent.noticed = True
        member.lease = Instant(min(member.lease, deadline))
        self._say(member, NodeNoticed(node=agent.node, deadline=deadline, source="metadata service", by_node=True))
        grace = Millis(max(0, deadline - self.agenda.now.wall - NOTICE_MARGIN))
        running = [key for key, at in agent.ranks.items() if at == RUNNING]
        agent.drain()
        for key in running:
            self._leave(member, key, grace)
        self.agenda.at(member.lease, self._expire, member)

    # -- the agent's calls -------------------------------------------------------------------------------------------

    def _call(self, member: Member, wait: Millis) -> None:
        if not member.calling:
            member.calling = True
            self.agenda.after(wait, self._called, member)

    def _called(self, member: Member) -> None:
        """Say hello where a session is missing, then everything that waits."""
        member.calling = False
        if not member.alive:
            return
        try:
            if member.session != self.daemon.epoch:
                self._hello(member)
            while member.outbox and member.alive:
                self._deliver(member, member.outbox[0])
                member.outbox.popleft()
        except Away:
            self._call(member, CALL_AGAIN)
        except Refusal:  # not ours any more: it ends itself
            self.cloud.exits(member.ref)

    def _hello(self, member: Member) -> None:
        left = self.daemon.tell(member.agent.hello())
        fresh = member.session == -1
        member.session = self.daemon.epoch
        self._extend(member, left)
        if fresh:
            self._renew_at_half(member)

    def _deliver(self, member: Member, message: Message) -> None:
        answer = self.daemon.tell(message)
        if isinstance(message, RenewLease):
            self._extend(member, answer)
        elif isinstance(message, RanksExited):
            member.agent.reported((message.job, message.generation))

    def _say(self, member: Member, message: Message) -> None:
        member.outbox.append(message)
        self._call(member, Millis(0))

    def _extend(self, member: Member, left: Millis) -> None:
        if not member.agent.noticed:
            member.lease = max(member.lease, Instant(self.agenda.now.wall + left))

    def _renew_at_half(self, member: Member) -> None:
        """As the desk does at every poll: a lease of which half is over is renewed."""
        left = member.lease - self.agenda.now.wall
        wait = max(CALL_AGAIN, left - self.daemon.mind.policy.lease // 2)
        self.agenda.after(Millis(min(wait, left)), self._renew, member)

    def _renew(self, member: Member) -> None:
        if self.agenda.now.wall >= member.lease:
            self._expire(member)
        if not member.alive or member.agent.noticed:
            return
        if not any(isinstance(message, RenewLease) for message in member.outbox):
            self._say(member, RenewLease(node=member.agent.node))
        self._renew_at_half(member)

    def _expire(self, member: Member) -> None:
        """The dead-man's switch: whatever the cloud does, nothing of ours lives on a machine after its lease."""
        if member.alive:
            self.gone(member.ref)
            self.cloud.exits(member.ref)

    # -- orders ------------------------------------------------------------------------------------------------------

    def call_in(self) -> None:
        """The daemon is back: everybody's session is gone, and they find out at their next poll."""
        for member in self.members.values():
            if not member.mute and member.session >= 0:
                self._call(member, Millis(self.cloud.rng.randrange(int(CALL_AGAIN))))

    def order(self, order: Order, epoch: int) -> None:
        """An order reaches its agent, if that still talks to the daemon that gave it."""
        member = self.members.get(order.node)
        if member is None or member.session != epoch:
            return
        running = [key for key, at in member.agent.ranks.items() if at == RUNNING]
        if not member.agent.obey(order):
            if member.agent.leaving and not member.agent.ranks:
                self.cloud.exits(member.ref)
            return
        if isinstance(order, TellStart):
            self._begin(member, order)
            return
        grace = order.grace
        left = [key for key in running if member.agent.ranks.get(key) == STOPPING]
        for key in left:
            self._leave(member, key, grace)
        if isinstance(order, TellStop) and not left:
            self._say(member, member.agent.exited((order.job, order.generation)))

    def _begin(self, member: Member, order: TellStart) -> None:
        key = order.job, order.generation
        run = self.runs.get(key)
        if run is None:
            run = self.runs[key] = self._run(order, member)
        self.judge.began(key, member.agent.node)
        self.agenda.after(self.pace.start, self._started, member, run)

    def _run(self, order: TellStart, member: Member) -> Run:
        work = self.work[order.job]
        self.runs.pop((order.job, order.generation - 1), None)
        nodes = order.world_size // max(1, len(order.ranks))
        hours_per_hour = self.speed(order.job, member.shape, nodes)
        rate = work.steps / work.hours * hours_per_hour / 3_600_000 * self.agenda.scale
        return Run(order.job, order.generation, order.world_size, order.interval, work, rate, first=work.saved)

    def _started(self, member: Member, run: Run) -> None:
        if member.agent.ranks.get(run.key) != RUNNING:
            return
        run.up[member.agent.node] = len(member.agent.places[run.key])
        member.agent.told.add(run.key)
        self._say(member, RanksStarted(node=member.agent.node, job=run.job, generation=run.generation))
        if run.whole and sum(run.up.values()) == run.world:
            self.agenda.after(self.pace.restore, self._step, run)

    # -- work --------------------------------------------------------------------------------------------------------

    def _step(self, run: Run) -> None:
        """The gang is whole, and its first step begins."""
        if not run.whole or run.frozen is not None:
            return
        run.begun = self.agenda.now.wall
        work = run.work
        work.redone += max(0, work.reached - run.first)
        first = self._first(run)
        self._say(first, FirstStep(node=first.agent.node, job=run.job, generation=run.generation, step=run.first))
        self.agenda.at(run.ends(), self._finish, run)
        self.agenda.after(run.every, self._checkpoint, run)

    def _first(self, run: Run) -> Member:
        return self.members[next(iter(run.up))]

    def _checkpoint(self, run: Run) -> None:
        if not run.whole or run.frozen is not None or run.step(self.agenda.now.wall) >= run.work.steps:
            return
        self._save(run)
        self.agenda.after(run.every, self._checkpoint, run)

    def _save(self, run: Run) -> None:
        """What is saved is there for every later generation, whoever hears of it."""
        step = run.step(self.agenda.now.wall)
        run.work.reached = max(run.work.reached, step)
        if step > run.work.saved:
            run.work.saved = step
            first = self._first(run)
            node = first.agent.node
            self._say(first, CheckpointSaved(node=node, job=run.job, generation=run.generation, step=step))

    def _finish(self, run: Run) -> None:
        if not run.whole or run.frozen is not None:
            return
        run.frozen = run.work.saved = run.work.reached = run.work.steps
        run.work.done = True
        for name in run.up:
            self._end(self.members[name], run.key, 0, drained=False)

    def _leave(self, member: Member, key: Key, grace: Millis) -> None:
        """Its ranks were told to stop: they save if the gang is whole and the time is enough, then they are gone."""
        run = self.runs[key]
        enough = grace >= self.pace.write
        if run.frozen is None:
            run.frozen = run.step(self.agenda.now.wall)
            if enough and run.begun is not None:
                self.agenda.after(self.pace.write, self._saved_leaving, run)
        wait = self.pace.write if enough else grace
        code = EXIT_SAVED if enough else EXIT_KILLED
        self.agenda.after(Millis(wait + 1), self._left, member, key, code)

    def _saved_leaving(self, run: Run) -> None:
        if run.whole:
            self._save(run)

    def _left(self, member: Member, key: Key, code: int) -> None:
        if key in member.agent.ranks:
            self._end(member, key, code, drained=True)

    def _end(self, member: Member, key: Key, code: int, *, drained: bool) -> None:
        member.agent.end(key, code, drained=drained)
        self.judge.ended(key, member.agent.node)
        self._say(member, member.agent.exited(key))
        if member.agent.leaving and not member.agent.ranks:
            self.agenda.after(Millis(SECOND), self.cloud.exits, member.ref)

    def _break(self, key: Key, lost: Member) -> None:
        """A rank is lost: the others stand still, and end by themselves after a while."""
        run = self.runs.get(key)
        if run is None or not run.whole:
            return
        run.work.reached = max(run.work.reached, run.step(self.agenda.now.wall))
        run.frozen, run.whole = run.step(self.agenda.now.wall), False
        run.up.pop(lost.agent.node, None)
        for name in list(run.up):
            self.agenda.after(self.pace.peers, self._peer, self.members[name], key)

    def _peer(self, member: Member, key: Key) -> None:
        if member.agent.ranks.get(key) == RUNNING:
            self._end(member, key, EXIT_PEER, drained=False)
