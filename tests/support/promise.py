"""One job with a deadline in an unkind spot market, minute by minute: everything fails but on-demand launches.

Spot comes and goes, launches are refused or never answered, machines vanish with and without a notice, the daemon
restarts, and for hours nobody answers for prices. Sure capacity can always be had and boots in BOOT.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from dsched.scheduler.core.deadline.outlook import Library
from dsched.scheduler.core.effect import Foresee
from dsched.scheduler.core.event import Event
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.message import MarketForeseen, Restarted
from dsched.scheduler.core.snapshot import Progress, State
from dsched.scheduler.core.state import TERMINAL, JobState, NodeState
from dsched.scheduler.core.timely.foresight import Foreseen, outlook
from dsched.scheduler.core.units import HOUR, MINUTE, Instant, Millis
from tests.support.stage import Stage, offer, spec

BOOT = 4  # minutes from an answered launch to the first step
STEPS = 10_000
LIBRARY = Library()
ZONES = ("us-east-1a", "us-east-1b", "us-west-2b")


@dataclass(slots=True)
class Unkind:
    """Run with `play()`; then `finished` is the market instant of the end, or None."""

    seed: int
    work: float  # hours
    within: float  # hours
    policy: str = "up"
    restarts: bool = True
    blackouts: bool = True
    tells: bool = True  # what is free; real clouds do not
    falls: float = 0.02  # chance in a minute that a zone that is up goes down
    mute: bool = False  # the job tells no step and saves nothing: whatever stops it takes back all
    finished: int | None = None
    done: float = 0.0  # minutes of work, as the job knows it
    saved: float = 0.0
    rng: Random = field(init=False)
    stage: Stage = field(init=False)
    up: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(ZONES, True))
    boots: dict[str, int] = field(default_factory=dict)  # node -> minute at which it is up
    hung: set[str] = field(default_factory=set)  # launches that nobody answers
    log: list[Event] = field(default_factory=list)
    bought: list[str] = field(default_factory=list)  # markets, in order

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.stage = Stage()
        lease = Millis(1_000 * HOUR)
        self.stage.policy = replace(
            self.stage.policy, lease=lease, deadline_policy=self.policy, restart=Millis(BOOT * MINUTE)
        )
        self.offers()

    def play(self) -> Unkind:
        begun = self.stage.now.market
        self.stage.submit(
            spec(
                duration=Millis(round(self.work * HOUR)),
                deadline=Instant(begun + round(self.within * HOUR)),
                steps=None if self.mute else STEPS,
            )
        )
        for minute in range(round(self.within * 60) + 120):
            self.minute(minute)
            if self.stage.job().state in TERMINAL:
                self.finished = self.stage.now.market - begun
                return self
        return self

    def minute(self, minute: int) -> None:
        self.stage.wait(MINUTE)
        self.foresee()
        self.market(minute)
        self.launches(minute)
        self.machines(minute)
        self.ranks(minute)
        if self.restarts and self.rng.random() < 0.003:
            self.restart()

    def foresee(self) -> None:
        """The worker answers within the minute, from an empty journal."""
        for effect in self.stage.asked(Foresee):
            made = outlook(effect.request, [], LIBRARY, begin=effect.request.made, gap=600.0)
            self.stage.tell(
                MarketForeseen(request=effect.request, foreseen=Foreseen(request=effect.request, outlook=made))
            )

    def market(self, minute: int) -> None:
        for zone in ZONES:
            if self.rng.random() < (self.falls if self.up[zone] else 0.01):
                self.up[zone] = not self.up[zone]
        dark = self.blackouts and 120 <= minute % 700 < 420
        if minute % 5 == 0 and not dark:
            self.offers()

    def offers(self) -> None:
        found = [replace(offer(z, self.rng.choice([9.0, 10.0, 14.0])), free=self.free(z)) for z in ZONES]
        self.stage.offers(*found, offer(ZONES[0], 98.32, market=Market.ON_DEMAND))

    def free(self, zone: str) -> int | None:
        return None if not self.tells else 8 if self.up[zone] else 0

    def launches(self, minute: int) -> None:
        """Answer what was asked: sure capacity always, spot as luck will have it."""
        for intent in list(self.stage.state.intents.values()):
            if intent.id in self.hung:
                continue
            sure, luck = intent.pool.market is not Market.SPOT, self.rng.random()
            if not sure and luck < 0.1:
                self.hung.add(intent.id)
            elif not sure and (luck < 0.3 or not self.up[intent.pool.zone]):
                self.stage.refuse()
            else:
                self.bought.append(str(intent.pool.market))
                self.boots |= {node: minute + BOOT for node in self.stage.launch(intent.id)}

    def machines(self, minute: int) -> None:
        """Boots end; spot of a pool that is down is taken."""
        state = self.stage.state
        for node in list(state.nodes.values()):
            if node.state is NodeState.BOOTING and self.boots.setdefault(node.id, minute + BOOT) <= minute:
                self.stage.hello(node.id)
        for node in list(state.nodes.values()):
            if node.id not in state.nodes or not node.ref:
                continue
            if node.leaving:
                self.stage.kill(node.id, "asked")
            elif node.pool.market is Market.SPOT and not self.up[node.pool.zone]:
                self.take(node.id)

    def take(self, node: str) -> None:
        if self.rng.random() < 0.5:
            self.stage.notice(node)
            self.drained()
        if node in self.stage.state.nodes:
            self.stage.kill(node)
        self.done = self.saved

    def ranks(self, minute: int) -> None:
        """A minute of work where it runs, a checkpoint now and then, the end when all is done."""
        job, state = self.stage.job(), self.stage.state
        if job.state is JobState.STARTING and job.nodes and all(n in state.nodes for n in job.nodes):
            self.done = self.saved
            self.stage.started()
            return
        if job.state is JobState.DRAINING:
            self.drained()
            return
        if job.state is not JobState.RUNNING:
            return
        self.done += 1.0
        step = min(STEPS, int(self.done / (self.work * 60) * STEPS))
        if not self.mute:
            self.stage.state.progress["j1"] = Progress(step=step, steps=STEPS)
        if minute % 10 == 0:
            self.save(step)
        if step >= STEPS:
            self.stage.exit(0)

    def save(self, step: int) -> None:
        if self.mute:
            return
        self.saved = self.done
        self.stage.saved(step)

    def drained(self) -> None:
        """The ranks save and leave."""
        job = self.stage.job()
        alive = [n for n in job.nodes if n in self.stage.state.nodes and self.stage.state.nodes[n].running]
        if alive and len(alive) == len(job.nodes):
            self.save(min(STEPS, int(self.done / (self.work * 60) * STEPS)))
            self.stage.exit(75, drained=True)

    def restart(self) -> None:
        """The daemon dies and reads its log again: what was not durable is gone."""
        old, state = self.stage.state, State(cluster="c" * 32)
        for event in self.stage.events:
            state.fold(event)
        state.jobs_made, state.launches_made = old.jobs_made, old.launches_made
        self.stage.state = state
        self.offers()
        self.stage.tell(Restarted())
