"""A storm around the core and its store: one seed decides every fault, and a court looks at the truth after every step.

Steps interleave by chance: any effect or answer that is under way, any agent's next act, a list, some time, a fault. A
crash forgets the state in memory and all that was under way; what remains is what the store holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dsched.scheduler.core.effect import (
    CallLaunch,
    CallObserve,
    CallTerminate,
    Effect,
    SendAlert,
    TellLeave,
    TellStart,
    TellStop,
)
from dsched.scheduler.core.event import Event
from dsched.scheduler.core.message import (
    Act,
    Action,
    AlertTried,
    ClockJumped,
    Launched,
    LaunchRefused,
    LaunchUnanswered,
    Message,
    NodesSeen,
    OffersSeen,
    Refusal,
    RefusedBy,
    SetBudget,
    Submit,
    Tick,
)
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.snapshot import Intent, State
from dsched.scheduler.core.state import TERMINAL, JobState
from dsched.scheduler.core.terms import Terms
from dsched.scheduler.core.units import MINUTE, SECOND, Instant, Millis, Moment, usd
from dsched.scheduler.sim.daemon import Away, Daemon
from dsched.scheduler.sim.judge import Violation
from dsched.scheduler.sim.storm.court import Court
from dsched.scheduler.sim.storm.crew import Crew
from dsched.scheduler.sim.storm.mischief import Mischief
from dsched.scheduler.sim.storm.scene import CALM, CLOUD, PRICES, REFUSED, ZONES, offer, pool, wish
from dsched.scheduler.sim.storm.world import START, World

STORY: Final = 40  # events in the story of a violation
TABLES: Final = ("job", "node", "intent", "attempt")


@dataclass(frozen=True, slots=True)
class Hanging:
    """A launch that hung: it takes effect whenever it is carried out."""

    intent: Intent


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer under way."""

    message: Message


class Storm(World):
    """Run with `blow(steps)`, then `calm()` or `linger()`."""

    def __init__(self, seed: int, *, jobs: int = 5, limit: str = "") -> None:
        super().__init__(seed)
        self.limit = limit  # dollars, for good; "": limits come and go
        self.jumpy = seed % 5 >= 3 and self.scale == 1  # the wall clock is set now and then, and no bill is checked
        self.anchor, self.slept = 0, 0  # the shift that the daemon has remembered durably; sleep since then
        self.held = Instant(0)  # the proofs that it held back then
        self.jobs_wanted = jobs
        self.log: list[Event] = []
        self.flying: list[Effect | Hanging | Answer] = []
        self.calm_since: int | None = None
        self.prices = dict.fromkeys(ZONES, CALM)
        self.quoted: dict[str, list[tuple[int, int]]] = {}  # pool -> (market instant, price), as the core heard it
        self.acknowledged: set[str] = set()  # jobs that somebody was told to have
        self.judge = Court(self)
        self.crew = Crew(self)
        self.terms = Terms(idle_keep=Millis(20 * SECOND), boot_max=Millis(MINUTE // 2))
        self.policy = Policy(lease=Millis((2 if seed % 2 else 10) * MINUTE), cooldown=Millis(MINUTE))
        self.daemon = Daemon(
            self.agenda, seed, policy=self.policy, terms=self.terms, carry=self._take, taps=(self,), patient=False
        )
        self.mischief = Mischief(self)
        self.offers()
        self.daemon.restarted()
        if limit:
            self.daemon.tell(SetBudget(name="default", limit=usd(limit)))

    @property
    def state(self) -> State:
        return self.daemon.state

    @property
    def now(self) -> Moment:
        return self.agenda.now

    # -- the daemon --------------------------------------------------------------------------------------------------

    def tell(self, message: Message) -> Any:
        """The core's answer. Raises Refusal; or Away, when the daemon dies over it: before it is written, or after."""
        if self.unlucky(0.004):
            self.counts["unheard"] += 1
            self.crash()
            raise Away
        answer = self.daemon.tell(message)
        if self.unlucky(0.004):
            self.counts["unanswered"] += 1
            self.crash()
            raise Away
        return answer

    def told(self, state: State, message: Message, now: Moment) -> None:
        """A tap hears this, too; only what is decided counts."""

    def decided(self, events: Sequence[Event]) -> None:
        """As a tap of the mind: the log, and what must hold for what was decided just now."""
        self.log += events
        self.judge.hear(events)

    def _take(self, effect: Effect) -> None:
        if isinstance(effect, TellStart | TellStop | TellLeave):
            machine = self.machine(effect.node)
            if machine is not None and machine.heard:
                machine.orders.append(effect)
        else:
            self.flying.append(effect)

    def crash(self) -> None:
        self.flying.clear()
        before = {table: dict(self.state.table(table) or {}) for table in TABLES}
        self.daemon.crash()
        self.daemon.start()
        for table, rows in before.items():
            if rows != self.state.table(table):
                raise Violation(self.story(f"the store gives other {table} rows"))
        for machine in self.machines.values():
            machine.heard = False
        if self.shift != self.anchor or self.slept or self.held:  # it remembers how far its clocks were apart
            set_by = Millis(self.shift - self.anchor)
            self.jumped(ClockJumped(set_by=set_by, slept=Millis(self.slept), held=self.held))
        self.offers()
        self.daemon.restarted()

    def jumped(self, message: ClockJumped) -> None:
        """The daemon notices. Cool-downs move with a clock that is set back, so the court forgets what it counted."""
        if message.set_by < 0:
            self.judge.refused.clear()
        self.daemon.tell(message)
        self.anchor, self.slept, self.held = self.shift, 0, self.state.proofs_from

    # -- the cloud ---------------------------------------------------------------------------------------------------

    def offers(self, *, dry: bool = False) -> None:
        self.pass_time(1)  # no two prices at one instant
        for zone in ZONES:
            if self.rng.random() < 0.3:
                self.prices[zone] = self.rng.choice(PRICES)
        found = [offer(z, self.prices[z], free=self._free(dry), at=self.now.market) for z in ZONES]
        if not self.faults:
            found = [offer(zone, CALM, free=8, at=self.now.market) for zone in ZONES]
        for each in found:
            assert each.quote is not None, "these offers have a price"
            self.quoted.setdefault(each.pool.id, []).append((self.now.market, each.quote.price))
        self.daemon.tell(OffersSeen(provider=CLOUD, offers=tuple(found)))

    def _free(self, dry: bool) -> int:
        return 0 if dry else self.rng.choice([0, 1, 2, 8])

    def _carry(self, item: Effect | Hanging | Answer) -> None:
        match item:
            case Answer(message=message):
                self.tell(message)
            case Hanging(intent=intent):
                if not self.of(intent.id):
                    self.build(intent, late=True)
            case CallLaunch(intent=name):
                self._launch(name)
            case CallTerminate(refs=refs):
                for machine in [self.machines[ref] for ref in refs if ref in self.machines]:
                    if not machine.undead and not self.unlucky(0.5):
                        self.die(machine, "asked")
            case CallObserve():
                self._list()
            case SendAlert(id=alert):
                self.tell(AlertTried(id=alert, ok=not self.unlucky(0.3)))
            case _:
                pass

    def _launch(self, name: str) -> None:
        intent = self.state.intents.get(name)
        if intent is None:
            return
        mine = self.of(name)
        if not mine and self.unlucky(0.25):
            self.tell(LaunchUnanswered(intent=name, why="lost before", retry=Millis(SECOND)))
            return
        if not mine and self.unlucky(0.25):
            self._refuse(intent)
            return
        if not mine and self.unlucky(0.3):
            self.counts["late launch"] += 1
            self.flying.append(Hanging(intent))
            self.tell(LaunchUnanswered(intent=name, why="hangs", retry=Millis(2 * SECOND)))
            return
        if not mine:
            self.build(intent)
            mine = self.of(name)
        if self.unlucky(0.2):
            self.tell(LaunchUnanswered(intent=name, why="lost after", retry=Millis(SECOND)))
        else:
            self._answer(Launched(intent=name, nodes=tuple(self.seen(machine) for machine in mine)))

    def _answer(self, message: Message) -> None:
        """At once, some time later, or both."""
        late, doubled = self.unlucky(0.15), self.unlucky(0.1)
        if late or doubled:
            self.counts["late answer" if late else "doubled answer"] += 1
            self.flying.append(Answer(message))
        if not late:
            self.tell(message)

    def _refuse(self, intent: Intent) -> None:
        scope, by, cooldown = "pool", RefusedBy.CAPACITY, Millis(int(REFUSED * self.scale))
        if self.unlucky(0.2):
            scope, by = self.rng.choice(["region", "account"]), RefusedBy.QUOTA
        for each in {p.id: p for p in map(pool, ZONES)}.values():
            if scope == "account" or each == intent.pool or (scope == "region" and each.region == intent.pool.region):
                self.judge.refuse(each.id, self.now.market + cooldown)
        # Told for certain: the court holds the core to it.
        self.daemon.tell(LaunchRefused(intent=intent.id, by=by, why="no", scope=scope, cooldown=cooldown))

    def _list(self) -> None:
        self.tell(NodesSeen(provider=CLOUD, nodes=self.listed(), asked=self.now.wall))

    # -- people -------------------------------------------------------------------------------------------------------

    def person(self) -> None:
        if len(self.state.jobs) < self.jobs_wanted:
            self._submit(f"k{len(self.state.jobs)}")
            return
        job = self.rng.choice(sorted(self.state.jobs))
        action = self.rng.choice([Action.PAUSE, Action.RESUME, Action.MIGRATE, Action.CANCEL])
        if action is Action.CANCEL and self.rng.random() < 0.8:
            return
        to = (f"{CLOUD}/{self.rng.choice(ZONES)}",) if action is Action.MIGRATE and self.rng.random() < 0.5 else ()
        try:
            self.tell(Act(job=job, action=action, to=to))
        except Refusal:
            self.counts["refused wish"] += 1

    def _submit(self, key: str) -> None:
        """Who gets no answer asks again with the same key."""
        spec = wish(self.rng, self.now.market)
        for _ in range(3):
            try:
                name = self.tell(Submit(spec=spec, key=key))
            except Refusal:  # nothing could finish it by its deadline
                self.counts["refused wish"] += 1
                return
            except Away:
                continue
            self.acknowledged.add(name)
            self.crew.work[name] = self.rng.choice([0, 0, 1, 2])
            return

    # -- the whole of it ---------------------------------------------------------------------------------------------

    def step(self) -> None:
        doings: list[Callable[[], None]] = [self._deliver] * 6 + [self.crew.act] * 6 + [self._list, self._wait]
        try:
            if self.unlucky(0.12):
                self.mischief.act()
            else:
                self.rng.choice(doings)()
        except Away:
            pass  # whoever spoke to the daemon got no answer
        if self.now.wall > self.state.proofs_from:
            self.held = Instant(0)
        self.judge.look()

    def _wait(self) -> None:
        long = self.rng.random() < 0.1 or (self.jumpy and not self.faults)  # leases may end an hour later than granted
        self.pass_time(self.rng.randrange(1, 30_000 if long else 3_000))
        self.reap()
        self.tell(Tick())

    def _deliver(self) -> None:
        if self.flying:
            at = self.rng.randrange(len(self.flying)) if self.faults else 0
            if isinstance(self.flying[at], Hanging) and self.unlucky(0.97):
                return  # it hangs on
            self._carry(self.flying.pop(at))

    def blow(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def linger(self, steps: int = 20_000) -> None:
        """No more faults, but nobody raises a limit: until nothing runs any more."""
        self._fair()
        for _ in range(steps):
            self.step()
            if not self.state.active and not self.state.nodes and not self.living():
                return
        raise Violation(self.story("it does not come to rest under its limit"))

    def calm(self, steps: int = 20_000) -> None:
        """No more faults: everything must come to its end, and nothing may be left on the bill."""
        self._fair()
        self.calm_since = self.now.wall
        self.tell(SetBudget(name="default", limit=None))
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
        if not self.jumpy:
            self.judge.money()

    def _fair(self) -> None:
        self.faults = False
        for machine in self.machines.values():
            machine.undead = False
        self.reap()
        self.offers()

    def _wake_all(self) -> None:
        self.offers()
        for job in list(self.state.jobs.values()):
            if job.state in (JobState.PAUSED, JobState.HELD):
                self.tell(Act(job=job.id, action=Action.RESUME))

    def _over(self) -> bool:
        jobs = all(job.state in TERMINAL for job in self.state.jobs.values())
        return jobs and not self.state.nodes and not self.living()

    def story(self, what: str) -> str:
        last = [f"{e.at.wall - START:>9} {e.kind:<20} {e.job:<4} {e.node:<22} {e.why}" for e in self.log[-STORY:]]
        return "\n".join([f"seed {self.seed}: {what}", *last])
