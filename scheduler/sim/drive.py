"""A simulation from its first submission to its last bill: the production core and store on a virtual clock, one
simulated cloud, agents and jobs, and the faults that were asked for. Deterministic: the same setting and the same
market give the same decisions, to the last byte of their digest.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from dsched.providers.fake.cloud import FakeCloud
from dsched.scheduler.core.hardware import Shape
from dsched.scheduler.core.job import Spec
from dsched.scheduler.core.market import Pool
from dsched.scheduler.core.message import Refusal, SetBudget, Submit, Tick
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.terms import Terms
from dsched.scheduler.core.units import HOUR, MINUTE, Instant, MicroUsd, Millis
from dsched.scheduler.engine.digest import Digest
from dsched.scheduler.engine.mind import Tap
from dsched.scheduler.sim.clock import Agenda
from dsched.scheduler.sim.daemon import Daemon
from dsched.scheduler.sim.faults import Faults
from dsched.scheduler.sim.fleet import Fleet, Member
from dsched.scheduler.sim.hands import Hands
from dsched.scheduler.sim.judge import Judge
from dsched.scheduler.sim.market import Course, Crier, stocks
from dsched.scheduler.sim.story import Story
from dsched.scheduler.sim.work import Pace, Work, pace_of

START: Final = Instant(1_767_225_600_000)  # 2026-01-01: no simulation looks at the real clock
DAY: Final = Millis(24 * HOUR)
TICK: Final = Millis(MINUTE)  # what is urgent rings an alarm of its own; ends of leases and idle nodes may wait so long
OBSERVE: Final = Millis(5 * MINUTE)  # a list without any hint
PRICES: Final = Millis(10 * MINUTE)  # offers without any hint
GIVE_UP: Final = Millis(60 * DAY)  # after the last submission; what still runs then is called unfinished
LISTED: Final = Millis(HOUR)  # ended machines stay on the list, as with EC2
PATIENCE: Final = 2  # ticks and looks for which a machine may live unowned


PACE: Final = Pace()
NO_FAULTS: Final = Faults()
POLICY: Final = Policy(restart=Millis(PACE.start + PACE.restore), write=PACE.write)
TERMS: Final = Terms()


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Everything that a run depends on besides its market and its jobs."""

    seed: int = 1
    lasting: Millis = Millis(30 * DAY)  # submissions stop within it; what runs then may go on
    since: Millis = Millis(0)  # age of the market at the start
    pace: Pace = PACE
    faults: Faults = NO_FAULTS
    policy: Policy = POLICY
    terms: Terms = TERMS
    quota: int = 1_000  # machines at a time
    budget: MicroUsd | None = None
    start: Instant = START


class Simulation:
    """Made of a setting, a market and submissions (when, what); `run` plays all of it."""

    def __init__(self, setting: Setting, course: Course, jobs: Sequence[tuple[int, Spec]]) -> None:
        self.setting, self.course, self.jobs = setting, course, jobs
        seed, faults = setting.seed, setting.faults
        self.agenda = agenda = Agenda(setting.start)
        self.rng = Random(f"{seed}/world")  # noqa: S311 - faults, not secrets
        self.digest, self.judge, self.story = Digest(), Judge(seed, setting.quota), Story()
        stock = stocks(course, setting.pace.boot, setting.since)
        self.cloud = FakeCloud(
            stock,
            now=lambda: agenda.now,
            rng=self.rng,
            name=stock[0].pool.provider,
            quota=setting.quota,
            lag=faults.lag,
            listed=LISTED,
        )
        self.hands = Hands(agenda, self.cloud, faults, self.rng)
        taps: tuple[Tap, ...] = (self.digest, self.judge, self.story, self.hands.seer)
        self.daemon = Daemon(
            agenda, seed, policy=setting.policy, terms=setting.terms, carry=self.hands.carry, taps=taps
        )
        self.fleet = Fleet(agenda, self.cloud, self.daemon, self.judge, setting.pace, self._speed, mute=faults.mute)
        self.crier = Crier(course, self.cloud, agenda, self.rng, silent=faults.silent, since=setting.since)
        self.hands.wire(self.daemon, self.fleet, self.crier)
        self.refused: dict[str, str] = {}  # name of a job -> why nobody took it
        self.crashes = 0
        self.seconds = 0.0  # of this machine's time
        self._shapes = [listing.shape for listing in course.listings.values()]
        self._unowned: dict[str, int] = {}

    def run(self) -> None:
        """Play it to its end. Raises judge.Violation."""
        began = time.process_time()
        self._begin()
        agenda, setting = self.agenda, self.setting
        end = setting.start + setting.lasting
        agenda.run(end)
        while self._busy() and agenda.now.wall < end + GIVE_UP:
            agenda.run(agenda.now.wall + HOUR)
        self.judge.lost(self.daemon.state, self.story.names)
        self.seconds = time.process_time() - began

    @property
    def unfinished(self) -> bool:
        return self._busy()

    def _begin(self) -> None:
        agenda, setting = self.agenda, self.setting
        if setting.budget is not None:
            self.daemon.tell(SetBudget(name="default", limit=setting.budget))
        self.hands.ask_prices()
        agenda.after(TICK, self._tick)
        agenda.after(OBSERVE, self._observe)
        agenda.after(PRICES, self._prices)
        for number, (at, spec) in enumerate(self.jobs):
            agenda.at(max(at, setting.start + MINUTE), self._submit, spec, f"k{number}")
        self._plan_faults()

    def _submit(self, spec: Spec, key: str) -> None:
        if not self.daemon.up:
            self.agenda.after(MINUTE, self._submit, spec, key)
            return
        try:
            name = self.daemon.tell(Submit(spec=spec, key=key))
        except Refusal as refusal:
            self.refused[spec.name] = str(refusal)
            return
        self.judge.acknowledged.add(name)
        self.fleet.work.setdefault(name, Work.of(spec))

    def _speed(self, job: str, shape: Shape, nodes: int) -> float:
        return pace_of(self.daemon.state.jobs[job].spec.need, shape, nodes, self._shapes)

    def _busy(self) -> bool:
        return bool(self.daemon.state.active or self.daemon.state.queue or self.daemon.state.nodes)

    # -- what comes again and again ----------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self.daemon.up:
            self.daemon.tell(Tick())
            patience = PATIENCE * (TICK + OBSERVE)
            alive = {name for name, member in self.fleet.members.items() if self._obeys(member)}
            self.judge.orphans(alive, self.daemon.state, self._unowned, self.agenda.now.wall, patience)
        self.agenda.after(TICK, self._tick)

    def _obeys(self, member: Member) -> bool:
        """Whether it lives and nobody has asked for its end: it may run on after that, and no daemon can help."""
        return self.cloud.lives(member.ref) and self.cloud.machine(member.ref).ending is None

    def _observe(self) -> None:
        if self.daemon.up:
            self.hands.look()
        self.agenda.after(OBSERVE, self._observe)

    def _prices(self) -> None:
        if self.daemon.up:
            self.hands.ask_prices()
        self.agenda.after(PRICES, self._prices)

    # -- faults ------------------------------------------------------------------------------------------------------

    def _plan_faults(self) -> None:
        faults, rng = self.setting.faults, self.rng
        if faults.crash:
            self.agenda.after(Millis(int(rng.expovariate(faults.crash / DAY))), self._crash)
        if faults.drought:
            for pool in self.course.listings:
                self.agenda.after(Millis(int(rng.expovariate(faults.drought / DAY))), self._dry, pool)

    def _crash(self) -> None:
        """At an instant of chance: between any two effects, with answers under way."""
        faults, rng = self.setting.faults, self.rng
        self.agenda.after(Millis(int(rng.expovariate(faults.crash / DAY))), self._crash)
        if not self.daemon.up:
            return
        self.crashes += 1
        self.daemon.crash()
        self.hands.crashed()
        self._unowned.clear()
        self.agenda.after(Millis(1 + rng.randrange(int(faults.away))), self._start)

    def _start(self) -> None:
        self.daemon.start()
        self.daemon.restarted()
        self.hands.ask_prices()
        self.hands.look()
        self.fleet.call_in()

    def _dry(self, pool: Pool) -> None:
        faults, rng = self.setting.faults, self.rng
        self.crier.dry(pool, Millis(1 + rng.randrange(int(faults.drought_for))))
        self.agenda.after(Millis(int(rng.expovariate(faults.drought / DAY))), self._dry, pool)
