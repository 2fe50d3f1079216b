"""A storm around the core: one seed decides every fault, and an omniscient judge looks at the truth after every step.

The world holds what really is: machines, the ranks alive on them, orders and replies under way. The core sees only what
reaches it. A crash forgets the state in memory and every effect not yet carried out; what remains is the event log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from dsched.scheduler.core.effect import (
    CallLaunch,
    CallObserve,
    CallRenew,
    CallTerminate,
    Effect,
    SendAlert,
    TellLeave,
    TellStart,
    TellStop,
)
from dsched.scheduler.core.event import Event
from dsched.scheduler.core.job import Spec
from dsched.scheduler.core.message import (
    Act,
    Action,
    AgentHello,
    AlertTried,
    CheckpointSaved,
    Group,
    Launched,
    LaunchRefused,
    LaunchUnanswered,
    Message,
    NodeNoticed,
    NodesSeen,
    OffersSeen,
    Place,
    RanksExited,
    RanksStarted,
    Refusal,
    RefusedBy,
    RenewLease,
    Restarted,
    SeenNode,
    SetBudget,
    SetupBroke,
    Submit,
    Tick,
)
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.snapshot import State
from dsched.scheduler.core.state import TERMINAL, JobState
from dsched.scheduler.core.step import handle
from dsched.scheduler.core.terms import Terms
from dsched.scheduler.core.units import HOUR, MINUTE, SECOND, Instant, Millis, Moment, usd
from tests.support.judge import Judge, Violation
from tests.support.stage import offer, spec
from tests.support.stage import pool as zone_pool

START = 10**9
FAULTS = (*("crash", "kill", "notice", "offers", "person", "agent", "budget", "stranger", "session") * 3, "away")
ZONES = ("us-east-1a", "us-east-1b", "us-west-2b", "eu-west-4a")


@dataclass(slots=True)
class Machine:
    ref: str
    token: str
    index: int
    intent: Any
    lease: int
    launched: int
    visible_at: int
    late: bool = False  # its launch took effect after everybody had given up waiting
    mute: bool = False  # its agent never comes up: only the provider can end it
    forgotten: bool = False  # the provider does not list it once it is dead
    alive: bool = True
    ended: int = 0
    by: str = ""
    notice: int | None = None
    doom: int | None = None  # taken at this instant, though its agent heard no notice
    heard: bool = False  # in this incarnation of the daemon
    boots: int = 0  # starts of its agent before this one
    orders: list[Any] = field(default_factory=list)  # waiting for its next poll, in order
    leaving: bool = False
    top: dict[str, int] = field(default_factory=dict)  # job -> newest generation ordered here
    ranks: dict[tuple[str, int], str] = field(default_factory=dict)  # -> running, stopping, done
    exits: dict[tuple[str, int], tuple[int, bool]] = field(default_factory=dict)  # unreported: code, drained
    told: set[tuple[str, int]] = field(default_factory=set)  # started was reported

    @property
    def node(self) -> str:
        return f"{self.token}.{self.index}"


@dataclass(frozen=True, slots=True)
class LateLaunch:
    """A request that hung: it takes effect whenever it is carried out."""

    intent: Any


class Storm:
    """Run with `blow(steps)`, then `calm()`."""

    def __init__(self, seed: int, *, jobs: int = 5, limit: str = "") -> None:
        self.seed, self.rng = seed, Random(seed)
        self.scale = (1, 1, 60)[seed % 3]  # market ms per wall ms
        self.limit = limit  # dollars, for good; "": limits come and go
        self.judge = Judge(self)
        self.terms = Terms(idle_keep=Millis(20 * SECOND), boot_max=Millis(MINUTE // 2))
        self.policy = Policy(lease=Millis((2 if seed % 2 else 10) * MINUTE), cooldown=Millis(MINUTE))
        self.now = Moment(Instant(START), Instant(START))
        self.log: list[Event] = []
        self.state = self._boot()
        self.flying: list[Effect | LateLaunch] = []
        self.calm_since: int | None = None
        self.machines: dict[str, Machine] = {}
        self.jobs_wanted = jobs
        self.faults = True
        self.doings = {
            "crash": self._crash,
            "away": self._away,
            "offers": self._offers,
            "person": self._person,
            "budget": self._budget,
        }
        self.counts: Counter[str] = Counter()
        self.work: dict[str, int] = {}  # job -> how many bad ends it still has in it
        self.broken: set[tuple[str, int]] = set()  # generations that lost a rank: the others wait for it for ever
        self.prices = dict.fromkeys(ZONES, 10.0)
        self.told: dict[str, list[tuple[int, int]]] = {}  # pool -> (market instant, price), as the core heard it
        self._offers()
        self.tell(Restarted())
        if limit:
            self.tell(SetBudget(name="default", limit=usd(limit)))

    # -- the daemon ------------------------------------------------------------------------------------------------

    def _boot(self) -> State:
        state = State(cluster="c" * 32, scale=self.scale)
        for event in self.log:
            state.fold(event)
        for event in self.log:
            for change in event.changes:
                state.jobs_made += change.new and change.table == "job"
                state.launches_made += change.new and change.table == "intent"
        return state

    def tell(self, message: Message) -> Any:
        answer = self._handle(message)
        for _ in range(100):
            if not self.state.dirty:
                return answer
            self._handle(Place())
        raise Violation(self.story("the planner never comes to rest"))

    def _handle(self, message: Message) -> Any:
        step = handle(self.state, message, self.now, self.rng, self.policy, self.terms)
        self.log += step.events
        self.judge.hear(step.events)
        for effect in step.effects:
            if isinstance(effect, TellStart | TellStop | TellLeave):
                machine = self._machine(effect.node)
                if machine is not None and machine.heard:
                    machine.orders.append(effect)
            else:
                self.flying.append(effect)
        return step.answer

    def _crash(self) -> None:
        self.flying.clear()
        before = {table: dict(self.state.table(table) or {}) for table in ("job", "node", "intent", "attempt")}
        self.state = self._boot()
        for table, rows in before.items():
            if rows != self.state.table(table):
                raise Violation(self.story(f"the fold of the log gives other {table} rows"))
        for machine in self.machines.values():
            machine.heard = False
        self._offers()
        self.tell(Restarted())

    # -- the world -------------------------------------------------------------------------------------------------

    def _offers(self) -> None:
        self._pass(1)  # no two prices at one instant
        for zone in ZONES:
            if self.rng.random() < 0.3:
                self.prices[zone] = self.rng.choice([10.0, 12.0, 20.0])
        found = [
            offer(zone, self.prices[zone], free=self.rng.choice([0, 1, 2, 8]), at=self.now.market) for zone in ZONES
        ]
        if not self.faults:
            found = [offer(zone, 10.0, free=8, at=self.now.market) for zone in ZONES]
        for quoted in found:
            assert quoted.quote is not None
            self.told.setdefault(quoted.pool.id, []).append((self.now.market, quoted.quote.price))
        self.tell(OffersSeen(provider="local", offers=tuple(found)))

    def _seen(self, machine: Machine) -> SeenNode:
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

    def _carry(self, effect: Effect | LateLaunch) -> None:
        match effect:
            case LateLaunch(intent=intent):
                if not any(m.token == intent.id for m in self.machines.values()):
                    self._build(intent, late=True)
            case CallLaunch(intent=name):
                self._launch(name)
            case CallTerminate(refs=refs):
                for ref in refs:
                    if ref in self.machines and not self._unlucky(0.5):
                        self._die(self.machines[ref], "asked")
            case CallRenew(ref=ref, until=until):
                if ref in self.machines and not self._unlucky(0.3):
                    self._extend(self.machines[ref], until)
            case CallObserve():
                self._list()
            case SendAlert(id=alert):
                self.tell(AlertTried(id=alert, ok=not self._unlucky(0.3)))
            case _:
                pass

    def _extend(self, machine: Machine, until: int) -> None:
        if machine.notice is None:
            machine.lease = max(machine.lease, until)

    def _launch(self, name: str) -> None:
        intent = self.state.intents.get(name)
        if intent is None:
            return
        mine = [m for m in self.machines.values() if m.token == name]
        if not mine and self._unlucky(0.25):
            self.tell(LaunchUnanswered(intent=name, why="lost before", retry=Millis(SECOND)))
            return
        if not mine and self._unlucky(0.25):
            self._refuse(intent)
            return
        if not mine and self._unlucky(0.3):
            self.counts["late launch"] += 1
            self.flying.append(LateLaunch(intent))
            self.tell(LaunchUnanswered(intent=name, why="hangs", retry=Millis(2 * SECOND)))
            return
        if not mine:
            self._build(intent)
            mine = [m for m in self.machines.values() if m.token == name]
        if self._unlucky(0.2):
            self.tell(LaunchUnanswered(intent=name, why="lost after", retry=Millis(SECOND)))
        else:
            self.tell(Launched(intent=name, nodes=tuple(self._seen(m) for m in mine)))

    def _refuse(self, intent: Any) -> None:
        scope, by, cooldown = "pool", RefusedBy.CAPACITY, Millis(30_000 * self.scale)
        if self._unlucky(0.2):
            scope, by = self.rng.choice(["region", "account"]), RefusedBy.QUOTA
        for pool in {pool.id: pool for pool in map(zone_pool, ZONES)}.values():
            if scope == "account" or pool == intent.pool or (scope == "region" and pool.region == intent.pool.region):
                self.judge.refuse(pool.id, self.now.market + cooldown)
        self.tell(LaunchRefused(intent=intent.id, by=by, why="no", scope=scope, cooldown=cooldown))

    def _build(self, intent: Any, *, late: bool = False) -> None:
        """All or nothing; a lease that is over already starts nothing."""
        self.counts["launch"] += 1
        for index in range(intent.count if intent.lease_until > self.now.wall else 0):
            ref = f"i{len(self.machines)}"
            seen_from = self.now.wall + (self.rng.randrange(20_000) if self.faults else 0)
            machine = Machine(ref, intent.id, index, intent, intent.lease_until, self.now.market, visible_at=seen_from)
            machine.late, machine.mute = late, self._unlucky(0.2)
            self.machines[ref] = machine

    def _unlucky(self, share: float) -> bool:
        return self.faults and self.rng.random() < share

    def _machine(self, node: str) -> Machine | None:
        return next((m for m in self.machines.values() if m.alive and m.node == node), None)

    def _obey(self, machine: Machine, order: TellStart | TellStop | TellLeave) -> None:
        match order:
            case TellStart(job=job, generation=generation):
                if machine.leaving or machine.notice is not None or generation < machine.top.get(job, 0):
                    return
                if (job, generation) in machine.ranks or machine.top.get(job) == generation:
                    return
                if any(name == job and at != "done" for (name, _), at in machine.ranks.items()):
                    return  # the older one still ends; a later comparison orders again
                machine.top[job] = generation
                machine.ranks[job, generation] = "running"
                machine.exits.pop((job, generation), None)
            case TellStop(job=job, generation=newest):
                machine.top[job] = max(machine.top.get(job, 0), newest)
                for (name, generation), at in list(machine.ranks.items()):
                    if name == job and generation <= newest and at == "running":
                        machine.ranks[name, generation] = "stopping"
                if (job, newest) not in machine.ranks:
                    machine.exits.setdefault((job, newest), (0, True))
            case TellLeave():
                machine.leaving = True
                for key, at in list(machine.ranks.items()):
                    if at == "running":
                        machine.ranks[key] = "stopping"

    def _die(self, machine: Machine, by: str, at: int | None = None) -> None:
        if machine.alive:
            machine.alive, machine.ended, machine.by = False, self.now.market if at is None else at, by
            machine.forgotten = self._unlucky(0.2)
            self.broken |= {key for key, state in machine.ranks.items() if state != "done"}
            machine.ranks.clear()

    # -- what agents do --------------------------------------------------------------------------------------------

    def _agent(self, machine: Machine) -> None:
        """One turn of one agent; a daemon that refuses it as not ours ends it."""
        try:
            if not machine.heard:
                self._hello(machine)
            elif machine.orders and self.rng.random() < 0.7:
                self._obey(machine, machine.orders.pop(0))
            elif self.rng.random() < 0.2:
                self._extend(machine, self.tell(RenewLease(node=machine.node)))
            else:
                self._report(machine)
        except Refusal:
            self._die(machine, "asked")

    def _hello(self, machine: Machine) -> None:
        groups = [
            Group(job=job, generation=generation, state="running" if at == "running" else "stopping")
            for (job, generation), at in machine.ranks.items()
            if at != "done"
        ]
        groups += [
            Group(
                job=job,
                generation=generation,
                state="exited",
                exits={} if drained else {self._rank(machine, job): code},
            )
            for (job, generation), (code, drained) in machine.exits.items()
        ]
        machine.heard = True
        machine.orders.clear()  # a new session begins
        hello = AgentHello(node=machine.node, boot=f"b{machine.boots}", running=tuple(groups))
        self._extend(machine, self.tell(hello))

    def _rank(self, machine: Machine, job: str) -> str:
        row = self.state.jobs.get(job)
        return str(row.nodes.index(machine.node)) if row and machine.node in row.nodes else "0"

    def _report(self, machine: Machine) -> None:
        node = machine.node
        for (job, generation), at in list(machine.ranks.items()):
            if at == "running" and (job, generation) not in machine.told:
                machine.told.add((job, generation))
                if self._unlucky(0.05):
                    self.broken.add((job, generation))
                    del machine.ranks[job, generation]
                    self.tell(SetupBroke(node=node, job=job, generation=generation, command="pip", code=1))
                    return
                self.tell(RanksStarted(node=node, job=job, generation=generation))
                return
            if at == "stopping" or (at == "running" and self._ends_by_itself((job, generation))):
                self._end_ranks(machine, job, generation, drained=at == "stopping" or machine.notice is not None)
                return
        for (job, generation), (code, drained) in list(machine.exits.items()):
            exits = {self._rank(machine, job): code}
            self.tell(RanksExited(node=node, job=job, generation=generation, exits=exits, drained=drained))
            del machine.exits[job, generation]
            return
        if machine.leaving:
            self._die(machine, "asked")

    def _ends_by_itself(self, key: tuple[str, int]) -> bool:
        return key not in self.broken and self.rng.random() < 0.03

    def _end_ranks(self, machine: Machine, job: str, generation: int, *, drained: bool) -> None:
        if drained:
            code = 75
        elif self.work.get(job, 0) > 0:
            self.work[job] -= 1
            code = self.rng.choice([1, 75, 76, 77, 78, -9])
            if code in (1, -9) and self.rng.random() < 0.5:
                row = self.state.jobs[job]
                saved = CheckpointSaved(node=machine.node, job=job, generation=generation, step=row.checkpoint_step + 5)
                self.tell(saved)
        else:
            code = 0
        if code:
            self.broken.add((job, generation))
        del machine.ranks[job, generation]
        machine.exits[job, generation] = (code, drained)

    # -- one step --------------------------------------------------------------------------------------------------

    def _list(self) -> None:
        """A list may lag behind a launch; it never shows a dead machine as alive."""
        nodes = [
            self._seen(m)
            for m in self.machines.values()
            if (m.visible_at <= self.now.wall if m.alive else not m.forgotten) and not self._unlucky(0.05)
        ]
        self.tell(NodesSeen(provider="local", nodes=tuple(nodes), asked=self.now.wall))

    def _time(self, most: int) -> None:
        self._pass(self.rng.randrange(1, most))
        self._reap()
        self.tell(Tick())

    def _reap(self) -> None:
        """Whatever time has ended."""
        for machine in self.machines.values():
            ends = [(at, "interrupted") for at in (machine.notice, machine.doom) if at is not None]
            at, by = min([*ends, (machine.lease, "lease")])
            if machine.alive and self.now.wall >= at:
                self._die(machine, by, self._market(at))

    def _pass(self, wall: int) -> None:
        until = self.now.wall + wall
        self.now = Moment(Instant(until), Instant(self._market(until)))

    def _market(self, wall: int) -> int:
        return START + (wall - START) * self.scale

    def _fault(self) -> None:
        alive = [m for m in self.machines.values() if m.alive]
        kind = self.rng.choice(FAULTS)
        self.counts[kind] += 1
        if kind in self.doings:
            self.doings[kind]()
        elif alive:
            fresh = [m for m in alive if m.ranks.keys() - m.told]
            self._harm(self.rng.choice(fresh if fresh and kind == "agent" else alive), kind)

    def _away(self) -> None:
        """The daemon is dead for so long that leases end meanwhile."""
        self._pass(self.rng.randrange(self.policy.lease * 3 // 2))
        self._reap()
        self._crash()

    def _budget(self) -> None:
        if not self.limit:
            self.tell(SetBudget(name="default", limit=self.rng.choice([None, usd(3), usd(50), usd(100_000)])))

    def _harm(self, machine: Machine, kind: str) -> None:
        if kind == "session":  # a new one begins, and the orders of the old one are gone
            machine.heard = False
        elif kind == "stranger":  # a launch of a time that a restore from backup has forgotten
            lease = Instant(self.now.wall + self.policy.lease)
            self._build(replace(machine.intent, id=f"ds-lost-{len(self.machines)}", lease_until=lease), late=True)
        elif kind == "kill":
            self._die(machine, "interrupted")
        elif kind == "agent":  # its agent dies: the ranks die with it, a new one dials in
            machine.heard = False
            machine.boots += 1
            self.broken |= machine.ranks.keys()
            machine.ranks.clear()
            machine.exits.clear()
            machine.told.clear()
            machine.top.clear()
        elif machine.notice is None:
            self._notice(machine)

    def _notice(self, machine: Machine) -> None:
        deadline = Instant(self.now.wall + self.rng.choice([3_000, 120_000]))
        by_node = self.rng.random() < 0.7
        if by_node:
            machine.notice = deadline
            machine.lease = min(machine.lease, deadline)
            for key, at in list(machine.ranks.items()):
                machine.ranks[key] = "stopping" if at == "running" else at
        else:  # only the provider told, and it may be late
            machine.doom = deadline + self.rng.choice([0, 0, 60_000])
        self.tell(NodeNoticed(node=machine.node, deadline=deadline, source="storm", by_node=by_node))

    def _spec(self) -> Spec:
        pick = self.rng.choice
        more: dict[str, Any] = {"priority": pick([0, 0, 1]), "retries": pick([1, 4]), "retry_on": pick([(), (1, -9)])}
        if self.rng.random() < 0.2:
            more |= {"cost_max": usd(pick([1, 30]))}
        if self.rng.random() < 0.2:
            more |= {"duration_max": Millis(pick([2, 60]) * MINUTE)}
        if self.rng.random() < 0.2:
            more |= {"duration": HOUR, "deadline": Instant(self.now.market + pick([1, 2, 5]) * HOUR)}
        return spec(gpus=pick([8, 16, 16]), gpus_max=16, **more)

    def _person(self) -> None:
        if len(self.state.jobs) < self.jobs_wanted:
            try:
                name = self.tell(Submit(spec=self._spec(), key=f"k{len(self.state.jobs)}"))
            except Refusal:  # nothing could finish it by its deadline
                self.counts["refused wish"] += 1
                return
            self.work[name] = self.rng.choice([0, 0, 1, 2])
            return
        job = self.rng.choice(sorted(self.state.jobs))
        action = self.rng.choice([Action.PAUSE, Action.RESUME, Action.MIGRATE, Action.CANCEL])
        if action is Action.CANCEL and self.rng.random() < 0.8:
            return
        try:
            to = (f"local/{self.rng.choice(ZONES)}",) if action is Action.MIGRATE and self.rng.random() < 0.5 else ()
            self.tell(Act(job=job, action=action, to=to))
        except Refusal:
            self.counts["refused wish"] += 1

    def step(self) -> None:
        doings: list[Callable[[], None]] = [self._deliver] * 6 + [self._any_agent] * 6 + [self._list, self._wait]
        if self.faults and self.rng.random() < 0.12:
            self._fault()
        else:
            self.rng.choice(doings)()
        self.judge.look()

    def _wait(self) -> None:
        self._time(30_000 if self.rng.random() < 0.1 else 3_000)

    def _deliver(self) -> None:
        if self.flying:
            at = self.rng.randrange(len(self.flying)) if self.faults else 0
            if isinstance(self.flying[at], LateLaunch) and self._unlucky(0.97):
                return  # it hangs on
            self._carry(self.flying.pop(at))

    def _any_agent(self) -> None:
        alive = [m for m in self.machines.values() if m.alive and not m.mute]
        if alive:
            self._agent(self.rng.choice(alive))

    # -- the whole of it -------------------------------------------------------------------------------------------

    def blow(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def linger(self, steps: int = 20_000) -> None:
        """No more faults, but nobody raises a limit: until nothing runs any more."""
        self.faults = False
        self._offers()
        for _ in range(steps):
            self.step()
            if not self.state.active and not self.state.nodes and not any(m.alive for m in self.machines.values()):
                return
        raise Violation(self.story("it does not come to rest under its limit"))

    def calm(self, steps: int = 20_000) -> None:
        """No more faults: everything must come to its end, and nothing may be left on the bill."""
        self.faults = False
        self.calm_since = self.now.wall
        self.tell(SetBudget(name="default", limit=None))
        self._offers()
        for job in list(self.state.jobs.values()):
            if job.state not in TERMINAL and (job.spec.cost_max or job.spec.deadline):
                self.tell(Act(job=job.id, action=Action.CANCEL))  # its limit might keep it for ever
        for turn in range(steps):
            self.step()
            if turn % 50 == 0:
                self._wake_all()
            if self._over():
                break
        if not self._over():
            states = {job.id: (str(job.state), job.reason) for job in self.state.jobs.values()}
            raise Violation(self.story(f"not everything ended: {states}; nodes {list(self.state.nodes.values())}"))
        self.judge.money()

    def _wake_all(self) -> None:
        self._offers()
        for job in list(self.state.jobs.values()):
            if job.state in (JobState.PAUSED, JobState.HELD):
                self.tell(Act(job=job.id, action=Action.RESUME))

    def _over(self) -> bool:
        jobs = all(job.state in TERMINAL for job in self.state.jobs.values())
        return jobs and not self.state.nodes and not any(m.alive for m in self.machines.values())

    def story(self, what: str) -> str:
        last = [f"{e.at.wall - START:>9} {e.kind:<20} {e.job:<4} {e.node:<22} {e.why}" for e in self.log[-40:]]
        return "\n".join([f"seed {self.seed}: {what}", *last])
